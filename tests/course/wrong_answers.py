"""Mistakes that students make: what is replaced in a solution, and by what, and the test of the exercise that finds it."""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    """A solution with a mistake in it."""

    exercise: str  # the folder; what stands behind the underscore is the file's name
    mistake: str
    right: str
    wrong: str
    found_by: str

    @property
    def file(self) -> str:
        return self.exercise.split("_")[1] + ".py"


def _of(exercise: str, *mistakes: tuple[str, str, str, str]) -> list[Wrong]:
    return [Wrong(exercise, *mistake) for mistake in mistakes]


HEADER = _of(
    "exercise1_header",
    (
        "forgets that DISCARD is no part of the length",
        "LENGTH = DISCARD - 1",
        "LENGTH = BUSY - 1",
        "test_a_discarded_record_is_not_busy_and_keeps_its_length",
    ),
    (
        "forgets that BUSY is no part of the length",
        "word & LENGTH",
        "word & ~DISCARD",
        "test_a_reserved_record_is_busy_and_has_its_length_already",
    ),
    (
        "takes one bit for the other",
        "BUSY, DISCARD = 1 << 31, 1 << 30",
        "BUSY, DISCARD = 1 << 30, 1 << 31",
        "test_a_reserved_record_is_busy_and_has_its_length_already",
    ),
    (
        "takes the words in the wrong order",
        "word, page_offset =",
        "page_offset, word =",
        "test_a_committed_record_has_its_length_and_no_flag",
    ),
    ("reads big-endian", '"=II"', '">II"', "test_a_committed_record_has_its_length_and_no_flag"),
    (
        "gives numbers for flags",
        "bool(word & BUSY)",
        "word & BUSY",
        "test_a_reserved_record_is_busy_and_has_its_length_already",
    ),
    (
        "counts pages from the data on",
        "page_offset)",
        "page_offset - 3)",
        "test_the_second_word_counts_pages_from_the_start_of_the_kernels_structure",
    ),
    ("rounds down", "+ 7) // 8", ") // 8", "test_the_next_record_stands_where_the_kernel_puts_it"),
    ("rounds up one too far", "+ 7) // 8", "+ 8) // 8", "test_the_next_record_stands_where_the_kernel_puts_it"),
    (
        "does not round",
        "(position + 8 + length + 7) // 8 * 8 %",
        "(position + 8 + length) %",
        "test_the_next_record_stands_where_the_kernel_puts_it",
    ),
    (
        "forgets the header",
        "position + 8 + length + 7",
        "position + length + 7",
        "test_the_next_record_stands_where_the_kernel_puts_it",
    ),
    (
        "rounds the payload alone, to 16",
        "+ 8 + length + 7) // 8 * 8",
        "+ 8 + (length + 15) // 16 * 16)",
        "test_the_next_record_stands_where_the_kernel_puts_it",
    ),
    ("lets positions grow for ever", " % 2**64", "", "test_positions_begin_anew_after_64_bits"),
)
WALK = _of(
    "exercise2_walk",
    (
        "goes one record too far",
        "position < producer",
        "position <= producer",
        "test_there_is_nothing_in_an_empty_ring",
    ),
    ("leaves the last record", "position < producer", "position + 16 < producer", "test_one_record"),
    ("does not round", "(length + 8 + 7) & ~7", "length + 8", "test_a_record_behind_one_of_each_length"),
    (
        "rounds up one too far",
        "(length + 8 + 7) & ~7",
        "(length + 8 + 8) & ~7",
        "test_a_record_behind_one_of_each_length",
    ),
    ("rounds down", "(length + 8 + 7) & ~7", "(length + 8) & ~7", "test_a_record_behind_one_of_each_length"),
    (
        "takes the header for payload",
        "position + 8 : position + 8 + length",
        "position : position + length",
        "test_one_record",
    ),
    ("counts the header into the length", "position + 8 + length]", "position + length]", "test_one_record"),
    (
        "leaves out empty records",
        "payloads.append(",
        "length and payloads.append(",
        "test_records_without_payload_are_records",
    ),
    ("begins at the start of the ring", "[], consumer\n", "[], 0\n", "test_the_walk_begins_at_the_consumer_position"),
    ("gives back where it began", "return payloads, position", "return payloads, consumer", "test_one_record"),
    (
        "keeps views",
        "bytes(data[position + 8 : position + 8 + length])",
        "data[position + 8 : position + 8 + length]",
        "test_payloads_are_copies",
    ),
    ("does not hand back", "    consumer[0] = position\n", "", "test_consume_takes_each_record_once"),
    (
        "hands back what it began with",
        "consumer[0] = position",
        "consumer[0] = consumer[0]",
        "test_consumed_space_is_free_again",
    ),
    (
        "stores the number of bytes",
        "consumer[0] = position",
        "consumer[0] = position - consumer[0]",
        "test_consume_takes_each_record_once",
    ),
    (
        "stores the position twice",
        "consumer[0] = position",
        "consumer[0] = consumer[1] = position",
        "test_consume_stores_the_position_in_the_consumer_page",
    ),
    (
        "hands back one record less",
        "consumer[0] = position",
        "consumer[0] = max(position - 16, 0)",
        "test_the_producer_wakes_a_consumer_that_has_caught_up",
    ),
)
WRAP = _of(
    "exercise3_wrap",
    (
        "does not mask",
        "return position & (size - 1)",
        "return position",
        "test_offsets_begin_anew_at_the_end_of_the_data",
    ),
    (
        "masks with the size",
        "position & (size - 1)",
        "position & size",
        "test_offsets_begin_anew_at_the_end_of_the_data",
    ),
    (
        "divides by the largest offset",
        "position & (size - 1)",
        "position % (size - 1)",
        "test_offsets_begin_anew_at_the_end_of_the_data",
    ),
    (
        "takes both halves for the ring",
        "size = len(data) // 2",
        "size = len(data)",
        "test_a_payload_goes_on_at_the_start_of_the_data[walk]",
    ),
    (
        "compares positions",
        "while position != producer:\n        at",
        "while position < producer:\n        at",
        "test_positions_begin_anew_after_64_bits[walk]",
    ),
    (
        "lets positions grow for ever",
        " % 2**64\n    return payloads, position\n\n\ndef",
        "\n    return payloads, position\n\n\ndef",
        "test_positions_begin_anew_after_64_bits[walk]",
    ),
    (
        "reads on behind the end",
        "first + bytes(area[: length - len(first)])",
        "first",
        "test_a_payload_goes_on_at_the_start_of_the_data[walk_once]",
    ),
    (
        "goes on at the wrong place",
        "area[: length - len(first)]",
        "area[8 : 8 + length - len(first)]",
        "test_a_payload_goes_on_at_the_start_of_the_data[walk_once]",
    ),
    ("takes one byte too many", "length - len(first)]", "length - len(first) + 1]", "test_any_records[walk_once]"),
)
BUSY = _of(
    "exercise4_busy",
    (
        "takes busy records",
        "        if word & BUSY:\n            break\n",
        "",
        "test_a_busy_record_holds_up_what_is_behind_it",
    ),
    (
        "skips busy records",
        "        if word & BUSY:\n            break\n",
        "        if word & BUSY:\n            word = word & LENGTH | DISCARD\n",
        "test_a_busy_record_holds_up_what_is_behind_it",
    ),
    (
        "stops too early at busy",
        "        if word & BUSY:\n            break\n",
        "        if word & BUSY:\n            return [], consumer\n",
        "test_what_stands_before_a_busy_record_is_taken",
    ),
    (
        "goes behind the busy record",
        "        if word & BUSY:\n            break\n",
        "        if word & BUSY:\n            position += 16\n            break\n",
        "test_what_stands_before_a_busy_record_is_taken",
    ),
    (
        "hands back all that was reserved",
        "return payloads, position",
        "return payloads, producer",
        "test_what_stands_before_a_busy_record_is_taken",
    ),
    (
        "gives discarded records",
        "if not word & DISCARD:",
        "if True:",
        "test_discarded_records_are_skipped_and_handed_back",
    ),
    (
        "stops at discarded records",
        "if word & BUSY:",
        "if word & (BUSY | DISCARD):",
        "test_discarded_records_are_skipped_and_handed_back",
    ),
    (
        "hands back up to the last record that it kept",
        "        step = (",
        "        if word & DISCARD and 8 + length == left: break\n        step = (",
        "test_discarded_records_alone_are_handed_back",
    ),
    (
        "takes DISCARD for length",
        "LENGTH = DISCARD - 1",
        "LENGTH = BUSY - 1",
        "test_discarded_records_are_skipped_and_handed_back",
    ),
    (
        "asks for DISCARD before BUSY",
        "if word & BUSY:",
        "if word & BUSY and not word & DISCARD:",
        "test_of_a_busy_record_nothing_else_counts",
    ),
    (
        "checks the length of busy records",
        "        if word & BUSY:\n            break\n        length = word & LENGTH\n",
        "        length = word & LENGTH\n        if word & BUSY and 8 + length <= left:\n            break\n",
        "test_of_a_busy_record_nothing_else_counts",
    ),
    (
        "does not check where records end",
        "if 8 + length > left:",
        "if False:",
        "test_a_record_that_ends_behind_the_producer_position_is_refused",
    ),
    (
        "checks the payload without the header",
        "if 8 + length > left:",
        "if length > left:",
        "test_a_record_that_ends_behind_the_producer_position_is_refused",
    ),
    (
        "checks against the ring only",
        "if 8 + length > left:",
        "if 8 + length > size:",
        "test_a_record_that_ends_behind_the_producer_position_is_refused",
    ),
    (
        "checks one byte too early",
        "if 8 + length > left:",
        "if 8 + length >= left:",
        "test_the_last_record_may_end_at_the_producer_position",
    ),
    (
        "does not check discarded records",
        "if 8 + length > left:",
        "if 8 + length > left and not word & DISCARD:",
        "test_a_record_that_ends_behind_the_producer_position_is_refused",
    ),
    (
        "loses the good records before a bad one",
        "            if position != consumer:\n                break\n",
        "",
        "test_good_records_before_a_bad_one_are_taken_first",
    ),
    (
        "never reports a bad record",
        "if position != consumer:",
        "if True:",
        "test_good_records_before_a_bad_one_are_taken_first",
    ),
    (
        "trusts the positions, and goes round and round",
        "left > size or ",
        "",
        "test_positions_that_contradict_each_other_are_refused",
    ),
    (
        "lets the producer be one ring ahead and more",
        "left > size",
        "left > 2 * size",
        "test_positions_that_contradict_each_other_are_refused",
    ),
    ("refuses a full ring", "left > size", "left >= size", "test_positions_may_be_a_whole_ring_apart"),
    (
        "does not check that positions are aligned",
        " or consumer % 8 or producer % 8",
        "",
        "test_positions_that_contradict_each_other_are_refused",
    ),
    (
        "trusts the size",
        "if size < 8 or size & (size - 1) or len(data) != 2 * size:",
        "if not size:",
        "test_data_that_is_not_twice_a_power_of_two_is_refused",
    ),
    ("forgets that a size can be 0", "size < 8 or ", "", "test_data_that_is_not_twice_a_power_of_two_is_refused"),
    (
        "lets positions grow for ever",
        "(position + step) % 2**64",
        "position + step",
        "test_all_records_come_once_while_producers_go_on",
    ),
)
BARRIERS = _of(
    "exercise5_barriers",
    (
        "has no barrier 1",
        "yield Barrier()  # 1",
        "pass  # 1",
        "test_on_arm64_where_loads_and_stores_pass_each_other[two records]",
    ),
    (
        "has no barrier 2",
        "yield Barrier()  # 2",
        "pass  # 2",
        "test_on_arm64_where_loads_and_stores_pass_each_other[two records]",
    ),
    (
        "has no barrier 3",
        "yield Barrier()  # 3",
        "pass  # 3",
        "test_on_arm64_where_loads_and_stores_pass_each_other[the second takes the place of the first]",
    ),
    (
        "has no barrier 4",
        "yield Barrier()  # 4",
        "pass  # 4",
        "test_on_x86_where_a_store_may_wait_while_loads_are_done[two records]",
    ),
    (
        "has barrier 4 before the store",
        "yield StoreConsumerPosition(end)\n        yield Barrier()",
        "yield Barrier()\n        yield StoreConsumerPosition(end)",
        "test_on_x86_where_a_store_may_wait_while_loads_are_done[two records]",
    ),
    (
        "has barrier 1 before the load",
        "producer = yield LoadProducerPosition()\n        yield Barrier()  # 1",
        "yield Barrier()\n        producer = yield LoadProducerPosition()  # 1",
        "test_on_arm64_where_loads_and_stores_pass_each_other[two records]",
    ),
    (
        "copies before barrier 2",
        "records.append(CopyPayload(end, word & LENGTH))",
        "yield CopyPayload(end, word & LENGTH)",
        "test_on_arm64_where_loads_and_stores_pass_each_other[two records]",
    ),
    (
        "sleeps without another look",
        "        position = end",
        "        return end",
        "test_on_a_machine_that_does_everything_in_order[two records]",
    ),
    (
        "sleeps when records are left",
        "        if end == position:\n",
        "        if end < producer:\n",
        "test_on_a_machine_that_does_everything_in_order[two records]",
    ),
    (
        "hands back before it copies",
        "        yield from records\n        yield Barrier()  # 3: what is being loaded is not handed back\n        yield StoreConsumerPosition(end)\n",
        "        yield StoreConsumerPosition(end)\n        yield from records\n",
        "test_on_a_machine_that_does_everything_in_order[two records]",
    ),
    (
        "does not hand back",
        "yield StoreConsumerPosition(end)",
        "pass",
        "test_on_a_machine_that_does_everything_in_order[two records]",
    ),
    (
        "takes busy records",
        "if word & BUSY:",
        "if False:",
        "test_on_a_machine_that_does_everything_in_order[two records]",
    ),
    (
        "takes discarded records",
        "if not word & DISCARD:",
        "if True:",
        "test_on_a_machine_that_does_everything_in_order[the first is discarded]",
    ),
    (
        "spins instead of sleeping",
        "            return position\n",
        "            continue\n",
        "test_on_a_machine_that_does_everything_in_order[nothing]",
    ),
    (
        "has a barrier for each record",
        "            word = yield LoadLengthWord(end)\n",
        "            word = yield LoadLengthWord(end)\n            yield Barrier()\n",
        "test_barriers_are_paid_for_once_a_batch_and_not_for_each_record",
    ),
)
WRONG = [*HEADER, *WALK, *WRAP, *BUSY, *BARRIERS]
