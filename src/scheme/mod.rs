//! Is this signature right? Pure functions of (headers, bytes, secrets, now): no clock, no I/O.
