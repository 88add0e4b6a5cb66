//! Every system call of tractorun that needs unsafe code, and nothing else.
