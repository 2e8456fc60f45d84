"""Imported by the worker processes of test_pool alone: whether their memory was limited by then."""

import resource

WAS_LIMITED = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
