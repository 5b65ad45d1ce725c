// Hidden functions, which the verifier checks where they are called, and weak ones.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int seen;

__hidden __noinline int hidden_function(int *pointer)
{
	return *pointer + 1;
}

__weak __hidden __noinline int weak_hidden(int number)
{
	return number * 2;
}

SEC("raw_tp/sys_enter")
int calling(void *ctx)
{
	int number = 3;

	seen = hidden_function(&number) + weak_hidden(number);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
