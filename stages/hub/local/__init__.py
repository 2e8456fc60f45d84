"""A Hugging Face Hub on this machine, for `make demo` and the tests: the real client talks to it over HTTP.

repositories: what it stores. messages: requests, replies and refusals. files, spaces: what its addresses do. server:
accounts, rights and HTTP.
"""
