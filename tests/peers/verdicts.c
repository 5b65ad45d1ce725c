/* For each program of the object: its name, and 0 or the errno of loading it alone. What the tools of libbpf-tools
 * set before loading (map sizes that are 0 in the object) is set to what tests/peers/test_debian_tools.py sets too. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	return 0;
}

static int load_alone(const char *path, const char *wanted)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	struct bpf_map *map;
	int result;

	if (!object)
		return -1;
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), wanted));
	bpf_object__for_each_map(map, object) {
		if (!bpf_map__max_entries(map) && bpf_map__type(map) != BPF_MAP_TYPE_PERF_EVENT_ARRAY)
			bpf_map__set_max_entries(map, 1024);
		if (bpf_map__type(map) == BPF_MAP_TYPE_STACK_TRACE && !bpf_map__value_size(map))
			bpf_map__set_value_size(map, 127 * 8);
	}
	result = bpf_object__load(object);
	bpf_object__close(object);
	return -result;
}

int main(int count, char **arguments)
{
	struct bpf_object *object;
	struct bpf_program *program;

	libbpf_set_print(quiet);
	object = bpf_object__open_file(arguments[1], NULL);
	if (!object)
		return 1;
	bpf_object__for_each_program(program, object)
		printf("%s %d\n", bpf_program__name(program), load_alone(arguments[1], bpf_program__name(program)));
	bpf_object__close(object);
	return 0;
}
