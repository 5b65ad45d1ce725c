"""Maps in the kernel, as Python objects.

cpus     how many values a per-CPU map has
forms    keys and values: Python value <-> bytes
info     what the kernel says of a map
map      Map: descriptor, pins, freezing, raw access
batch    many elements in one call
keyed    KeyedMap: a map as a dict
kinds    one class for each kind, and the table CLASSES
create   spec -> map, anew or from a pin
"""

from ..cpus import possible_cpus
from .create import create, create_or_reuse, fitted, open_pinned
from .info import MapInfo
from .keyed import KeyedMap
from .kinds import (
    CLASSES,
    ArrayMap,
    ArrayOfMaps,
    BloomFilter,
    HashMap,
    HashOfMaps,
    PerCpuArrayMap,
    PerCpuHashMap,
    QueueMap,
    ReferenceMap,
    RingBufMap,
    SlotsMap,
    StackTraceMap,
    StorageMap,
    open_id,
)
from .map import Map

__all__ = [
    "CLASSES",
    "ArrayMap",
    "ArrayOfMaps",
    "BloomFilter",
    "HashMap",
    "HashOfMaps",
    "KeyedMap",
    "Map",
    "MapInfo",
    "PerCpuArrayMap",
    "PerCpuHashMap",
    "QueueMap",
    "ReferenceMap",
    "RingBufMap",
    "SlotsMap",
    "StackTraceMap",
    "StorageMap",
    "create",
    "create_or_reuse",
    "fitted",
    "open_id",
    "open_pinned",
    "possible_cpus",
]
