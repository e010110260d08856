"""BPF without a compiler: assembly, the bpf(2) system call, the program of the kernel relay."""
