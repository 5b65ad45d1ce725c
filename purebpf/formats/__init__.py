"""What bytes mean. Nothing here opens a file, makes a system call or knows a file descriptor."""
