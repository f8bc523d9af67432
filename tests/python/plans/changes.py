"""Kinds of change that a constructor can see, as small programs."""

import dataclasses
import itertools
import sys
import types
import typing as tp

_numbers = itertools.count()

_PROGRAM = """
import collections, contextvars, dataclasses, enum, functools, os, threading, types, weakref
import jax, jax.numpy as jnp, numpy as np
from flax import linen as nn, nnx
{setup}
class Net(nnx.Module):
    def __init__(self, {parameters}*, rngs):
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        {body}
    def __call__(self, x):
        return self.linear(x) * self.factor
{after}
"""


@dataclasses.dataclass(frozen=True)
class Change:
    """A program, and something that happens to it between two calls.

    `read` is an expression whose value is the factor of the result; `given` are the arguments of
    the constructor, `made` what `ToLinen` wraps. `body` stands for `self.factor = {read}`, `after`
    follows the class, `helpers` are modules that are there before.
    """

    name: str
    setup: str
    read: str
    change: str
    given: str = ""
    made: str = "Net"
    body: str = ""
    after: str = ""
    planned: bool = True
    helpers: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


class Program:
    """The program of a Change in modules of its own."""

    def __init__(self, change: Change) -> None:
        self._change = change
        number = next(_numbers)
        for name, source in change.helpers.items():
            self._module(name, source)
        parameters = change.given + ", " if change.given else ""
        body = change.body or f"self.factor = {change.read}"
        text = _PROGRAM.format(
            setup=change.setup,
            parameters=parameters,
            body=body.replace("\n", "\n        "),
            after=change.after,
        )
        self._names = self._module(f"changing_{number}", text).__dict__

    @staticmethod
    def _module(name: str, source: str) -> types.ModuleType:
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
        return module

    def model(self, bridge: tp.Any) -> tp.Any:
        """The wrapper, made anew as a Linen module's `__call__` does."""
        names = [name.strip() for name in self._change.given.split(",") if name.strip()]
        args = tuple(self._names[name] for name in names)
        return bridge.ToLinen(eval(self._change.made, self._names), args=args)

    def happen(self) -> None:
        exec(compile(self._change.change, "<change>", "exec"), self._names)


def _c(name: str, setup: str, read: str, change: str, **rest: tp.Any) -> Change:
    return Change(name, setup, read, change, **rest)


_CONFIG = "class Config: pass\ncfg = Config(); cfg.rate = 2.0"

ARGUMENTS = [
    _c("attribute", _CONFIG, "cfg.rate", "cfg.rate = 3.0", given="cfg"),
    _c("class attribute of an argument", "class Config: rate = 2.0\ncfg = Config()", "cfg.rate",
       "Config.rate = 3.0", given="cfg"),
    _c("attribute that shadows that of the class", "class Config: rate = 2.0\ncfg = Config()",
       "cfg.rate", "cfg.rate = 3.0", given="cfg"),
    _c("nested attribute", _CONFIG + "; cfg.inner = Config(); cfg.inner.rate = 2.0",
       "cfg.inner.rate", "cfg.inner.rate = 3.0", given="cfg"),
    _c("slot", "class Config: __slots__ = ('rate',)\ncfg = Config(); cfg.rate = 2.0", "cfg.rate",
       "cfg.rate = 3.0", given="cfg"),
    _c("slot with a weak reference",
       "class Config: __slots__ = ('rate', '__weakref__')\ncfg = Config(); cfg.rate = 2.0",
       "cfg.rate", "cfg.rate = 3.0", given="cfg"),
    _c("slot of a base class", "class Base: __slots__ = ('rate',)\nclass Config(Base): pass\n"
       "cfg = Config(); cfg.rate = 2.0", "cfg.rate", "cfg.rate = 3.0", given="cfg"),
    _c("what a property reads", "class Config:\n  @property\n  def rate(self): return self._rate\n"
       "cfg = Config(); cfg._rate = 2.0", "cfg.rate", "cfg._rate = 3.0", given="cfg"),
    _c("a property", "class Config:\n  @property\n  def rate(self): return 2.0\ncfg = Config()",
       "cfg.rate", "Config.rate = property(lambda self: 3.0)", given="cfg"),
    _c("what a cached property has kept",
       "class Config:\n  @functools.cached_property\n  def rate(self): return self.base\n"
       "cfg = Config(); cfg.base = 2.0; cfg.rate", "cfg.rate", "cfg.base = 3.0; del cfg.rate",
       given="cfg"),
    _c("getattr with a computed name", _CONFIG, "getattr(cfg, 'ra' + 'te'[:2])", "cfg.rate = 3.0",
       given="cfg"),
    _c("vars", _CONFIG, "vars(cfg)['rate']", "cfg.rate = 3.0", given="cfg"),
    _c("the dict of an argument", _CONFIG, "cfg.__dict__['rate']", "cfg.rate = 3.0", given="cfg"),
    _c("a new dict of an argument", _CONFIG, "cfg.rate", "cfg.__dict__ = {'rate': 3.0}",
       given="cfg"),
    _c("another class of an argument", "class A: rate = 2.0\nclass B: rate = 3.0\ncfg = A()",
       "cfg.rate", "cfg.__class__ = B", given="cfg"),
    _c("attribute that __getattr__ answers",
       "class Config:\n  def __getattr__(self, name): return 2.0\ncfg = Config()", "cfg.rate",
       "cfg.rate = 3.0", given="cfg"),
    _c("attribute that is not there yet", "class Config: pass\ncfg = Config()",
       "getattr(cfg, 'rate', 2.0)", "cfg.rate = 3.0", given="cfg"),
    _c("deleted attribute", _CONFIG, "getattr(cfg, 'rate', 3.0)", "del cfg.rate", given="cfg"),
    _c("hasattr", "class Config: pass\ncfg = Config()", "3.0 if hasattr(cfg, 'rate') else 2.0",
       "cfg.rate = 3.0", given="cfg"),
    _c("element of a list of an argument", _CONFIG + "; cfg.rates = [2.0]", "cfg.rates[0]",
       "cfg.rates[0] = 3.0", given="cfg"),
    _c("appended to a list of an argument", _CONFIG + "; cfg.rates = [2.0]", "sum(cfg.rates)",
       "cfg.rates.append(1.0)", given="cfg"),
    _c("entry of a dict of an argument", _CONFIG + "; cfg.rates = {'a': 2.0}", "cfg.rates['a']",
       "cfg.rates['a'] = 3.0", given="cfg"),
    _c("order of a dict of an argument", _CONFIG + "; cfg.rates = {'a': 2.0, 'b': 3.0}",
       "list(cfg.rates.values())[0]", "cfg.rates['a'] = cfg.rates.pop('a')", given="cfg"),
    _c("order of an ordered dict", _CONFIG + "; cfg.d = collections.OrderedDict(a=2.0, b=3.0)",
       "list(cfg.d.values())[0]", "cfg.d.move_to_end('a')", given="cfg"),
    _c("set of an argument", _CONFIG + "; cfg.names = {'a'}", "2.0 + ('b' in cfg.names)",
       "cfg.names.add('b')", given="cfg"),
    _c("deque of an argument", _CONFIG + "; cfg.rates = collections.deque([2.0])", "cfg.rates[-1]",
       "cfg.rates.append(3.0)", given="cfg"),
    _c("bytearray of an argument", _CONFIG + "; cfg.rates = bytearray([2])", "cfg.rates[0]",
       "cfg.rates[0] = 3", given="cfg"),
    _c("object in a tuple of an argument",
       _CONFIG + "; cfg.parts = (types.SimpleNamespace(r=2.0),)",
       "cfg.parts[0].r", "cfg.parts[0].r = 3.0", given="cfg"),
    _c("dict of a subclass", "class Rates(dict): pass\ncfg = Rates(a=2.0)", "cfg['a']",
       "cfg['a'] = 3.0", given="cfg"),
    _c("attribute of a dict of a subclass",
       _CONFIG + "\nclass Rates(dict): rate = 2.0\ncfg.d = Rates()", "cfg.d.rate",
       "cfg.d.rate = 3.0", given="cfg"),
    _c("list of a subclass", "class Rates(list): pass\ncfg = Rates([2.0])", "cfg[0]",
       "cfg[0] = 3.0", given="cfg"),
    _c("namespace", "cfg = types.SimpleNamespace(rate=2.0)", "cfg.rate", "cfg.rate = 3.0",
       given="cfg"),
    _c("dataclass without eq",
       "@dataclasses.dataclass(eq=False)\nclass Config: rate: float = 2.0\ncfg = Config()",
       "cfg.rate", "cfg.rate = 3.0", given="cfg"),
    _c("dataclass", "@dataclasses.dataclass\nclass Config: rate: float = 2.0\ncfg = Config()",
       "cfg.rate", "cfg.rate = 3.0", given="cfg"),
    _c("list in a frozen dataclass",
       "@dataclasses.dataclass(frozen=True)\nclass Config: rates: list\n"
       "cfg = Config([2.0])", "cfg.rates[0]", "cfg.rates[0] = 3.0", given="cfg"),
    _c("object in a frozen dataclass",
       "@dataclasses.dataclass(frozen=True)\nclass Config: inner: object\n"
       "cfg = Config(types.SimpleNamespace(rate=2.0))", "cfg.inner.rate", "cfg.inner.rate = 3.0",
       given="cfg"),
    _c("frozen dataclass, forced",
       "@dataclasses.dataclass(frozen=True)\nclass Config: rate: float = 2.0\ncfg = Config()",
       "cfg.rate", "object.__setattr__(cfg, 'rate', 3.0)", given="cfg"),
    _c("what a bound method stands on", _CONFIG + "\ndef get(self): return self.rate\n"
       "Config.get = get\ngetter = cfg.get", "getter()", "cfg.rate = 3.0", given="getter"),
    _c("what a partial holds", _CONFIG + "\ngetter = functools.partial(lambda c: c.rate, cfg)",
       "getter()", "cfg.rate = 3.0", given="getter"),
    _c("keywords of a partial", "getter = functools.partial(lambda rate: rate, rate=2.0)",
       "getter()", "getter.keywords['rate'] = 3.0", given="getter"),
    _c("object with __call__",
       "class Getter:\n  rate = 2.0\n  def __call__(self): return self.rate\n"
       "cfg = Getter()", "cfg()", "cfg.rate = 3.0", given="cfg"),
    _c("defaults of a function that is given", "def getter(rate=2.0): return rate", "getter()",
       "getter.__defaults__ = (3.0,)", given="getter"),
    _c("global of a function that is given", "RATE = 2.0\ndef getter(): return RATE", "getter()",
       "RATE = 3.0", given="getter"),
    _c("closure of a function that is given",
       "def make():\n  rate = 2.0\n  def get(): return rate\n  def put(new):\n    nonlocal rate\n"
       "    rate = new\n  return get, put\ngetter, put = make()", "getter()", "put(3.0)",
       given="getter"),
    _c("object in a closure of a function that is given",
       _CONFIG + "\ndef make(c): return lambda: c.rate\ngetter = make(cfg)", "getter()",
       "cfg.rate = 3.0", given="getter"),
    _c("attribute of a function that is given",
       "def getter(): return getter.rate\ngetter.rate = 2.0",
       "getter()", "getter.rate = 3.0", given="getter"),
    _c("array of numpy of an argument", _CONFIG + "; cfg.table = np.array([2.0])",
       "float(cfg.table[0])", "cfg.table[0] = 3.0", given="cfg"),
    _c("weak reference of an argument",
       _CONFIG + "\nclass Holder: pass\nholder = Holder(); holder.ref = weakref.ref(cfg)",
       "holder.ref().rate", "cfg.rate = 3.0", given="holder"),
    _c("proxy of a mapping",
       _CONFIG + "; rates = {'a': 2.0}; cfg.view = types.MappingProxyType(rates)",
       "cfg.view['a']", "rates['a'] = 3.0", given="cfg"),
    _c("default factory", _CONFIG + "; cfg.d = collections.defaultdict(lambda: 2.0)",
       "cfg.d.default_factory()", "cfg.d.default_factory = lambda: 3.0", given="cfg"),
    _c("class that is an argument", "class Config: rate = 2.0", "Config.rate", "Config.rate = 3.0",
       given="Config"),
    _c("dict of a class that is an argument", "class Config: rates = {'a': 2.0}",
       "Config.rates['a']", "Config.rates['a'] = 3.0", given="Config"),
    _c("parameter of a shared NNX module",
       "shared = types.SimpleNamespace(m=nnx.Linear(1, 1, rngs=nnx.Rngs(0)), rate=2.0)",
       "2.0 + shared.m.use_bias", "shared.m.use_bias = False", given="shared"),
]  # fmt: skip

GLOBALS = [
    _c("global number", "RATE = 2.0", "RATE", "RATE = 3.0"),
    _c("global number read by globals", "RATE = 2.0", "globals()['RA' + 'TE']", "RATE = 3.0"),
    _c("global dict", "RATES = {'a': 2.0}", "RATES['a']", "RATES['a'] = 3.0"),
    _c("nested global dict", "RATES = {'a': {'b': 2.0}}", "RATES['a']['b']",
       "RATES['a']['b'] = 3.0"),
    _c("global list", "RATES = [2.0]", "RATES[0]", "RATES[0] = 3.0"),
    _c("global object", "class Config: rate = 2.0\nCFG = Config()", "CFG.rate", "CFG.rate = 3.0"),
    _c("global that is not there yet", "", "globals().get('RATE', 2.0)", "RATE = 3.0"),
    _c("global that shadows a builtin", "", "float(len([1, 1]))", "len = lambda value: 3.0"),
    _c("helper function", "def helper(): return 2.0", "helper()", "def helper(): return 3.0"),
    _c("helper of a helper", "def inner(): return 2.0\ndef helper(): return inner()", "helper()",
       "def inner(): return 3.0"),
    _c("global of a helper of a helper",
       "RATE = 2.0\ndef inner(): return RATE\ndef helper(): return inner()", "helper()",
       "RATE = 3.0"),
    _c("defaults of a helper", "def helper(rate=2.0): return rate", "helper()",
       "helper.__defaults__ = (3.0,)"),
    _c("keyword defaults of a helper", "def helper(*, rate=2.0): return rate", "helper()",
       "helper.__kwdefaults__ = {'rate': 3.0}"),
    _c("keyword defaults in place", "def helper(*, rate=2.0): return rate", "helper()",
       "helper.__kwdefaults__['rate'] = 3.0"),
    _c("list that is a default", "def helper(rates=[2.0]): return rates[0]", "helper()",
       "helper.__defaults__[0][0] = 3.0"),
    _c("code of a helper", "def helper(): return 2.0\ndef other(): return 3.0", "helper()",
       "helper.__code__ = other.__code__"),
    _c("attribute of a helper", "def helper(): return helper.rate\nhelper.rate = 2.0", "helper()",
       "helper.rate = 3.0"),
    _c("closure of a helper",
       "def make():\n  rate = 2.0\n  def get(): return rate\n  def put(new):\n    nonlocal rate\n"
       "    rate = new\n  return get, put\nhelper, put = make()", "helper()", "put(3.0)"),
    _c("list in a closure of a helper",
       "def make(rates): return lambda: rates[0]\nrates = [2.0]\nhelper = make(rates)", "helper()",
       "rates[0] = 3.0"),
    _c("a decorated helper",
       "def twice(f):\n  @functools.wraps(f)\n  def inner(): return f()\n  return inner\n"
       "RATE = 2.0\n"
       "@twice\ndef helper(): return RATE", "helper()", "RATE = 3.0"),
    _c("a remembering helper that forgets",
       "RATE = 2.0\n@functools.lru_cache(None)\ndef helper(): return RATE", "helper()",
       "RATE = 3.0; helper.cache_clear()"),
    _c("a generator helper", "RATE = 2.0\ndef helper():\n  yield RATE", "sum(helper())",
       "RATE = 3.0"),
    _c("a lambda", "RATE = 2.0\nhelper = lambda: RATE", "helper()", "RATE = 3.0"),
    _c("a comprehension", "RATES = [2.0]", "sum([r for r in RATES])", "RATES[0] = 3.0"),
    _c("a partial of a helper",
       "def base(rate): return rate\nhelper = functools.partial(base, 2.0)",
       "helper()", "helper = functools.partial(base, 3.0)"),
    _c("a dispatched helper",
       "@functools.singledispatch\ndef helper(x): return 2.0", "helper(1)",
       "helper.register(int, lambda x: 3.0)"),
    _c("registry by name", "REGISTRY = {'a': lambda: 2.0}\nNAME = 'a'", "REGISTRY[NAME]()",
       "REGISTRY['a'] = lambda: 3.0"),
    _c("name for a registry", "REGISTRY = {'a': lambda: 2.0, 'b': lambda: 3.0}\nNAME = 'a'",
       "REGISTRY[NAME]()", "NAME = 'b'"),
    _c("array of numpy", "TABLE = np.array([2.0])", "float(TABLE[0])", "TABLE[0] = 3.0"),
    _c("array of JAX", "TABLE = jnp.ones(2)", "float(TABLE.size)", "TABLE = jnp.ones(3)"),
    _c("initializer", "INIT = nnx.initializers.constant(2.0)", "",
       "INIT = nnx.initializers.constant(3.0)", body="self.factor = nnx.BatchStat(\n"
       "    INIT(rngs.params(), (1,)))"),
    _c("an enum", "class Mode(enum.Enum):\n  A = 2.0\n  B = 3.0\nMODE = Mode.A", "MODE.value",
       "MODE = Mode.B"),
    _c("context variable", "VAR = contextvars.ContextVar('v', default=2.0)", "VAR.get()",
       "VAR.set(3.0)"),
    _c("object in a context variable",
       "class Config: rate = 2.0\nCFG = Config()\nVAR = contextvars.ContextVar('v')\nVAR.set(CFG)",
       "VAR.get().rate", "CFG.rate = 3.0"),
    _c("thread-local", "LOCAL = threading.local(); LOCAL.rate = 2.0", "LOCAL.rate",
       "LOCAL.rate = 3.0"),
    _c("environment variable", "os.environ['NNX_WRAPPERS_TESTED'] = '2'",
       "float(os.environ['NNX_WRAPPERS_TESTED'])", "os.environ['NNX_WRAPPERS_TESTED'] = '3'"),
    _c("environment variable by getenv", "os.environ['NNX_WRAPPERS_TESTED'] = '2'",
       "float(os.getenv('NNX_WRAPPERS_TESTED'))", "os.environ['NNX_WRAPPERS_TESTED'] = '3'"),
    _c("environment variable that is not there yet", "os.environ.pop('NNX_WRAPPERS_TESTED', None)",
       "float(os.environ.get('NNX_WRAPPERS_TESTED', '2'))",
       "os.environ['NNX_WRAPPERS_TESTED'] = '3'"),
    _c("jitted helper", "def helper(): return 2.0\njitted = jax.jit(helper)", "jitted()",
       "jitted = jax.jit(lambda: 3.0)",
       body="self.factor = nnx.BatchStat(jitted())"),
    _c("a change by another thread", "RATES = [2.0]", "RATES[0]",
       "t = threading.Thread(target=lambda: RATES.__setitem__(0, 3.0)); t.start(); t.join()"),
    _c("match", "class Point:\n  __match_args__ = ('x',)\nCFG = Point(); CFG.x = 2.0", "",
       "CFG.x = 3.0", body="match CFG:\n  case Point(x=found): self.factor = found"),
    _c("format", "class Config: pass\nCFG = Config(); CFG.rate = 2.0",
       "float('{0.rate}'.format(CFG))", "CFG.rate = 3.0"),
]  # fmt: skip

MODULES = [
    _c("attribute of an imported module", "import changing_a", "changing_a.RATE",
       "changing_a.RATE = 3.0", helpers={"changing_a": "RATE = 2.0"}),
    _c("dict of an imported module", "import changing_b", "changing_b.RATES['a']",
       "changing_b.RATES['a'] = 3.0", helpers={"changing_b": "RATES = {'a': 2.0}"}),
    _c("function of an imported module", "import changing_c", "changing_c.helper()",
       "changing_c.helper = lambda: 3.0", helpers={"changing_c": "def helper(): return 2.0"}),
    _c("global of a function of an imported module", "import changing_d", "changing_d.helper()",
       "changing_d.RATE = 3.0",
       helpers={"changing_d": "RATE = 2.0\ndef helper(): return RATE"}),
    _c("module imported in the constructor", "import changing_e as _e", "",
       "_e.RATE = 3.0", body="import changing_e\nself.factor = changing_e.RATE",
       helpers={"changing_e": "RATE = 2.0"}),
    _c("name imported in the constructor", "import changing_f as _f", "",
       "_f.RATE = 3.0", body="from changing_f import RATE\nself.factor = RATE",
       helpers={"changing_f": "RATE = 2.0"}),
    _c("module by import_module", "import importlib, changing_g as _g", "",
       "_g.RATE = 3.0", body="self.factor = importlib.import_module('changing_g').RATE",
       helpers={"changing_g": "RATE = 2.0"}, planned=False),
    _c("getattr on a module", "import changing_h", "getattr(changing_h, 'RA' + str('TE'))",
       "changing_h.RATE = 3.0", helpers={"changing_h": "RATE = 2.0"}),
    _c("attribute of a module by a member of an enum",
       "import changing_q\n"
       "class Field(str, enum.Enum): RATE = 'RATE'\n"
       "setattr(changing_q, Field.RATE, 2.0)",
       "changing_q.RATE", "changing_q.RATE = 3.0", helpers={"changing_q": "OTHER = 1.0"}),
    _c("class of an imported module", "import changing_i", "changing_i.Config.rate",
       "changing_i.Config.rate = 3.0", helpers={"changing_i": "class Config: rate = 2.0"}),
    _c("name that is not in a module yet", "import changing_j",
       "getattr(changing_j, 'RATE', 2.0)", "changing_j.RATE = 3.0", helpers={"changing_j": ""}),
    _c("function of a library", "import changing_l", "float(jnp.array_changing())",
       "jnp.array_changing = lambda: 3.0", helpers={"changing_l": "import jax.numpy as jnp\n"
       "jnp.array_changing = lambda: 2.0"}),
    _c("module in sys.modules", "import sys, changing_k", "sys.modules['changing_k'].RATE",
       "changing_k.RATE = 3.0", helpers={"changing_k": "RATE = 2.0"}, planned=False),
]  # fmt: skip

CLASSES = [
    _c("attribute of the class", "", "", "Net.rate = 3.0",
       body="self.factor = getattr(type(self), 'rate', 2.0)"),
    _c("method", "", "", "Net.rate = lambda self: 3.0",
       body="self.factor = self.rate() if hasattr(self, 'rate') else 2.0"),
    _c("attribute of a base class", "class Base(nnx.Module): rate = 2.0", "self.rate",
       "Base.rate = 3.0", made="Sub", after="class Sub(Net, Base): pass"),
    _c("method of a base class", "class Base(nnx.Module):\n  def rate(self): return 2.0",
       "self.rate()", "Base.rate = lambda self: 3.0", made="Sub",
       after="class Sub(Net, Base): pass"),
    _c("attribute of another class", "class Other: rate = 2.0", "Other.rate", "Other.rate = 3.0"),
    _c("dict of another class", "class Other: rates = {'a': 2.0}", "Other.rates['a']",
       "Other.rates['a'] = 3.0"),
    _c("attribute of a base of another class",
       "class Base: rate = 2.0\nclass Other(Base): pass", "Other.rate", "Base.rate = 3.0"),
    _c("bases of another class",
       "class A: rate = 2.0\nclass B: rate = 3.0\nclass Other(A): pass", "Other.rate",
       "Other.__bases__ = (B,)"),
    _c("property of another class",
       "class Other:\n  @property\n  def rate(self): return 2.0", "Other().rate",
       "Other.rate = property(lambda self: 3.0)"),
    _c("classmethod of another class",
       "class Other:\n  rate = 2.0\n  @classmethod\n  def get(cls): return cls.rate",
       "Other.get()", "Other.rate = 3.0"),
    _c("code of a method", "class Other:\n  def get(self): return 2.0\ndef new(self): return 3.0",
       "Other().get()", "Other.get.__code__ = new.__code__"),
    _c("defaults of a method", "class Other:\n  def get(self, rate=2.0): return rate",
       "Other().get()", "Other.get.__defaults__ = (3.0,)"),
    _c("metaclass", "class Meta(type):\n  @property\n  def rate(cls): return 2.0\n"
       "class Other(metaclass=Meta): pass", "Other.rate", "Meta.rate = property(lambda cls: 3.0)"),
    _c("__init__ of a submodule's class",
       "class Block(nnx.Module):\n  def __init__(self): self.rate = 2.0", "Block().rate",
       "def init(self): self.rate = 3.0\nBlock.__init__ = init"),
    _c("class defined anew", "class Block(nnx.Module):\n  def __init__(self): self.rate = 2.0",
       "Block().rate", "class Block(nnx.Module):\n  def __init__(self): self.rate = 3.0"),
    _c("__init__ of the class", "", "2.0",
       "before = Net.__init__\ndef init(self, *, rngs):\n  before(self, rngs=rngs)\n"
       "  self.factor = 3.0\nNet.__init__ = init"),
    _c("subclasses", "class Base: pass", "2.0 + len(Base.__subclasses__())",
       "class Sub(Base): pass", planned=False),
    _c("a descriptor", "class Rate:\n  value = 2.0\n  def __get__(self, owner, kind=None):\n"
       "    return self.value\nclass Other: rate = Rate()", "Other.rate",
       "Other.__dict__['rate'].value = 3.0"),
    _c("registry filled by __init_subclass__",
       "REGISTRY = {}\nclass Base:\n  def __init_subclass__(cls): REGISTRY[cls.__name__] = cls\n"
       "class A(Base): rate = 2.0", "REGISTRY['A'].rate", "class A(Base): rate = 3.0"),
    _c("singleton", "class Config:\n  instance = None\n  @classmethod\n  def get(cls):\n"
       "    if cls.instance is None: cls.instance = cls(); cls.instance.rate = 2.0\n"
       "    return cls.instance\nConfig.get()", "Config.get().rate", "Config.get().rate = 3.0"),
    _c("NamedTuple with a list", "Config = collections.namedtuple('Config', 'rates')\n"
       "CFG = Config([2.0])", "CFG.rates[0]", "CFG.rates[0] = 3.0"),
]  # fmt: skip

MAKERS = [
    _c("bound method as the class",
       "class Factory:\n  rate = 2.0\n  def make(self, *, rngs):\n    net = Net(rngs=rngs)\n"
       "    net.factor = self.rate\n    return net\nfactory = Factory()", "1.0",
       "factory.rate = 3.0", made="factory.make"),
    _c("classmethod as the class", "class Maker:\n  rate = 2.0\n  @classmethod\n"
       "  def make(cls, *, rngs):\n    net = Net(rngs=rngs)\n    net.factor = cls.rate\n"
       "    return net", "1.0", "Maker.rate = 3.0", made="Maker.make"),
    _c("partial as the class", _CONFIG + "\ndef make(c, *, rngs):\n  net = Net(rngs=rngs)\n"
       "  net.factor = c.rate\n  return net", "1.0", "cfg.rate = 3.0",
       made="functools.partial(make, cfg)"),
    _c("function as the class", "RATE = 2.0\ndef make(*, rngs):\n  net = Net(rngs=rngs)\n"
       "  net.factor = RATE\n  return net", "1.0", "RATE = 3.0", made="make"),
    _c("object as the class", "class Maker:\n  rate = 2.0\n  def __call__(self, *, rngs):\n"
       "    net = Net(rngs=rngs)\n    net.factor = self.rate\n    return net\nmaker = Maker()",
       "1.0", "maker.rate = 3.0", made="maker"),
]  # fmt: skip

FURTHER_IN = [
    _c("defaults of a static method",
       "class Other:\n  @staticmethod\n  def get(rate=2.0): return rate", "Other.get()",
       "Other.get.__defaults__ = (3.0,)"),
    _c("closure of a property",
       "def make():\n  rate = 2.0\n  def put(new):\n    nonlocal rate\n    rate = new\n"
       "  return property(lambda self: rate), put\nget, put = make()\n"
       "class Other: rate = get", "Other().rate", "put(3.0)"),
    _c("what a partial is made of", "def f(r): return r\ndef g(r): return 3.0\n"
       "P = functools.partial(f, 2.0)", "P()", "P.__setstate__((g, (2.0,), {}, None))"),
    _c("a list that the module keeps", "LOG = [1.0]", "",
       "LOG[0] = 2.0", body="self.log, self.factor = LOG, LOG[0]"),
    _c("attribute of a function that does not run", "def act(): pass\nact.gain = 2.0", "act.gain",
       "act.gain = 3.0"),
    _c("defaults of a function that does not run", "def act(rate=2.0): pass",
       "act.__defaults__[0]", "act.__defaults__ = (3.0,)"),
    _c("default of a field", "@dataclasses.dataclass\nclass Other: rate: float = 2.0",
       "dataclasses.fields(Other)[0].default", "dataclasses.fields(Other)[0].default = 3.0"),
    _c("object that lru_cache keeps", "class Config: rate = 2.0\n@functools.lru_cache\n"
       "def get(): return Config()", "get().rate", "get().rate = 3.0"),
    _c("registration with an abstract class",
       "import abc\nclass Base(abc.ABC): pass\nclass Other: pass\nOTHER = Other()",
       "3.0 if isinstance(OTHER, Base) else 2.0", "Base.register(Other)"),
    _c("attribute of an array of a subclass", "class Own(np.ndarray): pass\n"
       "A = np.ones(1).view(Own); A.rate = 2.0", "A.rate", "A.rate = 3.0"),
    _c("attribute of a member of an enum", "class Mode(enum.Enum): A = 1\nMode.A.rate = 2.0",
       "Mode.A.rate", "Mode.A.rate = 3.0"),
    _c("event", "EVENT = threading.Event()", "3.0 if EVENT.is_set() else 2.0", "EVENT.set()"),
    _c("view of a dict", "D = {'a': 2.0}\nV = D.values()", "sum(V)", "D['a'] = 3.0"),
    _c("arguments of an exception", "E = ValueError([2.0])", "E.args[0][0]", "E.args[0][0] = 3.0"),
    _c("cell", "CELL = types.CellType(2.0)", "CELL.cell_contents", "CELL.cell_contents = 3.0"),
    _c("attrgetter on a module", "import operator, changing_m\nGET = operator.attrgetter('RATE')",
       "GET(changing_m)", "changing_m.RATE = 3.0", helpers={"changing_m": "RATE = 2.0"}),
    _c("format of a module", "import changing_n", "float('{0.RATE}'.format(changing_n))",
       "changing_n.RATE = 3.0", helpers={"changing_n": "RATE = 2.0"}),
    _c("partial of getattr", "import changing_o\nNAME = 'RATE'",
       "functools.partial(getattr, changing_o, NAME)()", "changing_o.RATE = 3.0",
       helpers={"changing_o": "RATE = 2.0"}),
    _c("list that a pattern matches", "class Point:\n  rates = [2.0]\n"
       "  __match_args__ = ('rates',)\nP = Point()", "", "Point.rates[0] = 3.0",
       body="match P:\n  case Point(found): self.factor = found[0]"),
    _c("object in the place of a method",
       "class Get:\n  rate = 2.0\n  def __call__(self, i): return self.rate\n"
       "class Other: __getitem__ = Get()", "Other()[0]",
       "Other.__dict__['__getitem__'].rate = 3.0"),
    _c("module in the place of another", "import sys, changing_p", "",
       "new = types.ModuleType('changing_p'); new.RATE = 3.0; sys.modules['changing_p'] = new",
       body="import changing_p\nself.factor = changing_p.RATE",
       helpers={"changing_p": "RATE = 2.0"}),
    _c("list of the standard library", "import sys\nsys.argv.append('2')", "float(sys.argv[-1])",
       "sys.argv[-1] = '3'"),
    _c("class of a library", "if hasattr(nnx.Linear, 'changing'): del nnx.Linear.changing",
       "getattr(nnx.Linear, 'changing', 2.0)", "nnx.Linear.changing = 3.0"),
    _c("name that is no builtin yet", "import builtins\nif hasattr(builtins, 'CHANGING'):\n"
       "  del builtins.CHANGING", "", "builtins.CHANGING = 3.0",
       body="try: self.factor = CHANGING\nexcept NameError: self.factor = 2.0"),
    _c("attribute of a jitted function", "z = jax.jit(lambda: 1); z.rate = 2.0", "z.rate",
       "z.rate = 3.0", given="z"),
    _c("named tuple", "Config = collections.namedtuple('Config', 'rates')\ncfg = Config([2.0])",
       "cfg.rates[0]", "cfg.rates[0] = 3.0", given="cfg"),
]  # fmt: skip

SEEN = [*ARGUMENTS, *GLOBALS, *MODULES, *CLASSES, *MAKERS, *FURTHER_IN]

_FILE = """import os, pathlib, tempfile
handle, path = tempfile.mkstemp()
os.write(handle, b'2.0'); os.close(handle)
del handle"""

# What answers otherwise at each call: never planned, for a reason that names the function.
EVERY_CALL = [
    (_c("next", "it = iter(range(2, 100))", "next(it)", ""), "next"),
    (_c("next of a counter", "import itertools\nit = itertools.count(2)", "next(it)", ""), "next"),
    (_c("a generator", "def gen():\n  n = 2.0\n  while True:\n    yield n\n    n += 1\nit = gen()",
        "next(it)", ""), "next"),
    (_c("iteration without next", "it = iter(range(2, 100))", "",
        "", body="for value in it:\n  break\nself.factor = value"), "next"),
    (_c("zip", "it = iter(range(2, 1000))", "list(zip(it, [0]))[0][0]", ""), "next"),
    (_c("time", "import time", "1e3 * (time.perf_counter() % 1)", ""), "perf_counter"),
    (_c("random", "import random", "random.random()", ""), "random"),
    (_c("randint", "import random", "random.randint(0, 10**6)", ""), "it calls Random"),
    (_c("numpy.random", "", "float(np.random.rand())", ""), "numpy.random"),
    (_c("a generator of numpy", "rng = np.random.default_rng(0)", "float(rng.random())", ""),
     "numpy.random"),
    (_c("a new generator of numpy", "", "float(np.random.default_rng().random())", ""),
     "default_rng"),
    (_c("reading a file", _FILE, "", "",
        body="with open(path) as f: self.factor = float(f.read())"), "open"),
    (_c("reading a path", _FILE, "float(pathlib.Path(path).read_text())", ""), "open"),
    (_c("reading an array", _FILE, "float(np.loadtxt(path))", ""), "it calls"),
    (_c("reading an open file", _FILE + "\nf = open(path)", "float(f.seek(0) or f.read())", ""),
     "next"),
    (_c("date", "import datetime", "datetime.datetime.now().timestamp() % 1000", ""), "now"),
    (_c("uuid", "import uuid", "float(uuid.uuid4().int % 1000)", ""), "urandom"),
    (_c("a clock in a partial", "import time",
        "1e3 * (functools.partial(time.perf_counter)() % 1)", ""), "perf_counter"),
    (_c("a source in a map", "import os",
        "float(int.from_bytes(next_of(map(os.urandom, [2]))))", "",
        after="def next_of(numbers):\n  for number in numbers: return number"), "urandom"),
    (_c("argument that is changed", "@dataclasses.dataclass(frozen=True)\nclass Config: r: list\n"
        "cfg = Config([1.0])", "", "", given="cfg", body="cfg.r[0] += 1\nself.factor = cfg.r[0]"),
     "cfg.r"),
    (_c("partial that is changed", "cfg = functools.partial(max, [1.0])", "", "", given="cfg",
        body="cfg.args[0][0] += 1\nself.factor = cfg.args[0][0]"),
     "arguments that the constructor changes"),
    (_c("callback", "R = [1]\ndef get():\n  R[0] += 1\n  return np.float32(R[0])", "", "",
        body="self.factor = nnx.BatchStat(jax.pure_callback(get, jax.ShapeDtypeStruct((), "
        "jnp.float32)))"), "calls back"),
    (_c("own counter", "N = 1.0", "", "", body="global N\nN += 1\nself.factor = N"), "N"),
    (_c("counter of an object", "class C: n = 1.0\nC = C()", "", "",
        body="C.n += 1\nself.factor = C.n"), "C.n"),
    (_c("counter of a class", "class C: n = 1.0", "", "", body="C.n += 1\nself.factor = C.n"), "C"),
    (_c("list that grows", "L = [1.0]", "", "", body="L.append(1.0)\nself.factor = sum(L)"), "L"),
    (_c("counter in a closure",
        "def make():\n  n = 1.0\n  def count():\n    nonlocal n\n    n += 1\n"
        "    return n\n  return count\ncount = make()", "count()", ""), "count"),
    (_c("default that grows", "def count(seen=[1.0]):\n  seen.append(1.0)\n  return sum(seen)",
        "count()", ""), "count"),
]  # fmt: skip
