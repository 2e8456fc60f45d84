"""A Hub on this machine, for `make demo` and the tests: the real client talks to it over HTTP."""
