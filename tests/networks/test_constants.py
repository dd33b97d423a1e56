"""Constants are what does nothing when it is computed; anything doubtful is none."""

import ast

import pytest

from batchdigit.networks.constants import Constants

IMPORTS = """
import math, os, sys, argparse, collections, copy
import numpy as np
import torch
import torch.nn as nn
from torch import nn as layers
from torch.nn import Linear, init
from functools import partial
from functools import partial as part
from pathlib import Path
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar
import requests
from mine import helper, device as torch_device
from .own import partial as not_partial
OWN = {"a": 1}
def tensor(x): ...
def len(x): ...
"""


def is_constant(expression: str, before: str = IMPORTS) -> bool:
    constants = Constants(ast.parse(before).body)
    return constants.holds(ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize(
    "expression",
    [
        "1", "-1.5", "'a'", "b'a'", "None", "...", "True", "1 + 2 * 3", "x if y else z",
        "[1, (2, 3), {4}, {'a': 5, **b}]", "[*a, *b]", "a < b <= c", "not a and b", "f'{a!r:>{b}}'",
        "a.b.c", "a['k'][1:2]", "lambda x: train(x)", "[x * 2 for x in range(3) if x]",
        "{k: v for k, v in OWN.items()}", "sorted(OWN.keys())", "tuple(x for x in (1, 2))",
        "{v: k for k, v in enumerate('abc')}", "'a b'.split()", "', '.join(OWN)",
        "int('5')", "max(1, 2)", "sorted([3, 1], key=lambda x: -x)", "sorted(OWN, key=str)",
        "math.sqrt(2)", "math.log2(math.pi)", "np.array([1, 2])", "np.float32(1)",
        "torch.device('cuda' if torch.cuda.is_available() else 'cpu')", "torch.float32",
        "torch.device('mps' if torch.backends.mps.is_available() else 'cpu')",
        "torch.tensor([0.1307])", "torch.Size([1])", "torch.cuda.device_count() > 1",
        "nn.Linear(3, 4)", "layers.ReLU()", "torch.nn.Conv2d(1, 2, 3)", "Linear(3, 4)",
        "nn.Sequential(nn.Flatten(), nn.Linear(784, 10))",
        "partial(nn.BatchNorm2d, eps=1e-3)", "part(int, 5)", "collections.OrderedDict(a=1)",
        "collections.namedtuple('A', 'b c')", "argparse.Namespace(hidden=5)", "TypeVar('T')",
        "collections.defaultdict(list)['a']", "collections.defaultdict(None, OWN)",
        "collections.defaultdict(lambda: 5)", "nn.Linear(**OWN)", "max(x, key=None)",
        "Path('a') / 'b'", "os.path.join('a', 'b')", "os.environ.get('HIDDEN', '5')",
        "os.environ['HIDDEN']", "copy.deepcopy(OWN)", "str(5)", "set()", "isinstance",
    ],
)  # fmt: skip
def test_harmless_expression_is_a_constant(expression: str) -> None:
    assert is_constant(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "f()", "train(1)", "[f() for x in y]", "[x for x in f()]", "a.b()", "(f())[0]", "{1: f()}",
        "f'{f()}'", "1 + f()", "int(f())", "int(*f())", "lambda x=f(): x", "(n := 5)",
        "open('x', 'w')", "print('x')", "eval('1')", "__import__('os')", "exec('x')", "input()",
        "os.system('ls')", "os.remove('x')", "os.mkdir('x')", "Path('x').mkdir()",
        "Path('x').write_text('y')", "requests.get('http://x')", "requests.items()",
        "torch.load('x')", "torch.save(x, 'y')", "torch.randn(3)", "torch.manual_seed(0)",
        "torch.hub.load('a', 'b')", "np.load('x')", "nn.init.zeros_(x)", "init.zeros_(x)",
        "nn.Linear(f(), 3)", "nn.functional.relu(x)", "nn.Linear(3, 4)(x)", "Net()",
        "helper(1)", "torch_device('cpu')", "not_partial(int)", "tensor(1)", "len('abc')",
        "sys.argv[1]", "sys.argv", "sorted([1], key=lambda x: train(x))", "sorted([1], key=train)",
        "model.eval()", "model.get(1)", "getattr(a, 'b')", "parser.parse_args()",
        "collections.defaultdict(train)['a']", "collections.defaultdict(*[train])['a']",
        "collections.defaultdict(lambda: train())['a']", "max(x, **{'key': train})",
        "sorted(x, **{'key': train})", "field(**{'default_factory': train})",
        "(await x)", "[x async for x in y]", "(yield)",
    ],
)  # fmt: skip
def test_what_may_do_something_is_no_constant(expression: str) -> None:
    assert not is_constant(expression)


@pytest.mark.parametrize(
    "before",
    [
        "def int(x): ...",
        "int = train",
        "from mine import int",
        "if x:\n  int = train",
        "for int in x: pass",
        "class int(float): ...",
    ],
)
def test_builtin_that_the_file_rebinds_is_not_trusted(before: str) -> None:
    assert is_constant("int(5)", "x = 1")
    assert not is_constant("int(5)", before)


def test_name_is_trusted_only_if_all_its_imports_are() -> None:
    one = "try:\n  from typing import TypeVar\nexcept ImportError:\n  from {} import TypeVar"
    assert is_constant("TypeVar('T')", one.format("typing_extensions"))
    assert not is_constant("TypeVar('T')", one.format("mine"))


def test_arguments_of_this_program_are_not_the_scripts() -> None:
    assert not is_constant("argv[1]", "from sys import argv")
    assert not is_constant("s.argv[1]", "import sys as s")
    assert is_constant("s.platform", "import sys as s")


@pytest.mark.parametrize(
    "record",
    [
        "@dataclass\nclass Config:\n  hidden: int = 5",
        "@dataclass(frozen=True)\nclass Config:\n  sizes: list = field(default_factory=list)",
        "@dataclass\nclass Config:\n  sizes: list = field(default_factory=lambda: [1, 2])",
        "class Config(NamedTuple):\n  hidden: int = 5",
        "class Config:\n  hidden = 5\n  def double(self): return 2 * self.hidden",
        "class Config(object): pass",
        "class Config:\n  'text'\n  __slots__ = ('a',)\n  @staticmethod\n  def f(): train()",
        "@dataclass\nclass Base:\n  a: int\n@dataclass\nclass Config(Base):\n  b: int = 5",
    ],
)
def test_instance_of_a_plain_record_is_a_constant(record: str) -> None:
    assert is_constant("Config()", f"{IMPORTS}\n{record}")


@pytest.mark.parametrize(
    "record",
    [
        "class Config:\n  def __init__(self): train()",
        "class Config:\n  def __new__(cls): train()",
        "@dataclass\nclass Config:\n  def __post_init__(self): train()",
        "@dataclass\nclass Config:\n  sizes: list = field(default_factory=train)",
        "@dataclass\nclass Config:\n  sizes: list = field(default_factory=lambda: train())",
        "class Config(nn.Module): pass",
        "class Config:\n  @property\n  def run(self): train()",
        "class Config:\n  run = property(train)",
        "class Config:\n  def __add__(self, other): train()",
        "class Config:\n  __getattr__ = train",
        "class Config:\n  if True:\n    @property\n    def run(self): train()",
        "class Run:\n  def __get__(self, *_): train()\nclass Config:\n  run = Run()",
        "class Config(Unknown): pass",
        "class Config(metaclass=Meta): pass",
        "@helper\nclass Config: pass",
        "class Config: pass\nConfig = train",
        "class Base:\n  def __init__(self): train()\nclass Config(Base): pass",
    ],
)
def test_instance_of_a_class_that_may_do_something_is_none(record: str) -> None:
    assert not is_constant("Config()", f"{IMPORTS}\n{record}")
