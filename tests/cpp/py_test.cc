// The room src/py: containers, objects, the recursion guard, errors, the interpreter.
#include <stdexcept>

#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/interpreter.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"
#include "support.h"

namespace nnx_wrappers::testing {

namespace {

std::vector<std::string> keys_of(const std::vector<py::Item>& items) {
  std::vector<std::string> keys;
  keys.reserve(items.size());
  for (const py::Item& item : items) keys.push_back(show(item.first));
  return keys;
}

TEST(PyContainers, DictItemsIsASnapshotThatOwnsWhatItHolds) {
  nb::dict dict = nb::cast<nb::dict>(eval("{'b': object(), 'a': object()}"));
  const auto items = py::dict_items(dict);
  dict.clear();
  EXPECT_THAT(keys_of(items), ElementsAre("'b'", "'a'"));
  for (const py::Item& item : items) EXPECT_EQ(Py_REFCNT(item.second.ptr()), 1);
}

TEST(PyContainers, ElementsIsASnapshotOfAnyIterable) {
  const nb::list list = nb::cast<nb::list>(eval("[object(), object()]"));
  const auto elements = py::elements(list);
  list.attr("clear")();
  ASSERT_THAT(elements, SizeIs(2));
  EXPECT_EQ(Py_REFCNT(elements[0].ptr()), 1);
  EXPECT_THAT(py::elements(eval("(i for i in range(3))")), SizeIs(3));
  EXPECT_TRUE(error_of([] { py::elements(nb::int_(1)); }).is_a(PyExc_TypeError));
}

TEST(PyContainers, MappingItemsReadsEveryKindOfMapping) {
  for (const char* mapping : {"{'b': 1, 'a': 2}", "FrozenDict({'b': 1, 'a': 2})",
                              "types.MappingProxyType({'b': 1, 'a': 2})",
                              "collections.OrderedDict(b=1, a=2)", "nnx.State({'b': 1, 'a': 2})"}) {
    EXPECT_THAT(keys_of(py::mapping_items(eval(mapping))), ElementsAre("'b'", "'a'")) << mapping;
  }
}

TEST(PyContainers, MappingItemsRefusesItemsThatAreNoPairs) {
  const nb::object broken = run(R"(
    class Broken(dict):
      def items(self):
        return [(1, 2, 3)]
    result = Broken()
  )");
  EXPECT_TRUE(error_of([&] { py::mapping_items(broken); }).is_a(PyExc_TypeError));
}

TEST(PyContainers, SortsAsPythonSorts) {
  for (const char* source :
       {"{}", "{'b': 1, 'a': 2, '': 3}",
        R"({'\U0001F600': 1, '\uffff': 2, 'z': 3, '\xe9': 4, 'Z': 5})",
        R"({'a\0b': 1, 'a': 2, 'a\0a': 3})", "{10: 1, 9: 2, -1: 3}", "{(2, 'a'): 1, (1, 'b'): 2}",
        "{f'{i * 7919 % 1000}': i for i in range(1000)}", "{2.5: 1, True: 2, 0: 3}",
        "{b'b': 1, b'a': 2}"}) {
    const nb::object dict = eval(source);
    auto items = py::dict_items(dict);
    py::sort_by_key(items);
    std::vector<std::string> expected;
    for (nb::handle key : nb::iter(eval("sorted")(dict))) expected.push_back(show(key));
    EXPECT_EQ(keys_of(items), expected) << source;
  }
}

TEST(PyContainers, SortsByTheKeysOwnOrder) {
  const nb::object dict = run(R"(
    class Reversed(str):
      def __lt__(self, other):
        return str.__gt__(self, other)
      __hash__ = str.__hash__
    result = {Reversed('a'): 1, Reversed('c'): 2, Reversed('b'): 3}
  )");
  auto items = py::dict_items(dict);
  py::sort_by_key(items);
  EXPECT_THAT(keys_of(items), ElementsAre("'c'", "'b'", "'a'"));
}

TEST(PyContainers, SortSurvivesAnOrderThatIsNone) {
  const nb::object dict = run(R"(
    class Odd:
      def __lt__(self, other):
        calls.append(1)
        return len(calls) % 3 == 0
    calls = []
    result = {Odd(): i for i in range(200)}
  )");
  auto items = py::dict_items(dict);
  py::sort_by_key(items);
  nb::set values;
  for (const py::Item& item : items) values.add(item.second);
  EXPECT_EQ(nb::len(values), 200);
}

TEST(PyContainers, KeysThatDoNotCompareKeepTheirPlaces) {
  auto items = py::dict_items(eval("{'b': 1, 2: 2, 'a': 3}"));
  EXPECT_TRUE(error_of([&] { py::sort_by_key(items); }).is_a(PyExc_TypeError));
  EXPECT_THAT(keys_of(items), ElementsAre("'b'", "2", "'a'"));
  py::sort_by_key_if_comparable(items);
  EXPECT_THAT(keys_of(items), ElementsAre("'b'", "2", "'a'"));
}

TEST(PyContainers, SortHandsOnOtherErrorsOfAKey) {
  const nb::object dict = run(R"(
    class Broken:
      def __lt__(self, other):
        raise ZeroDivisionError
    result = {Broken(): 1, Broken(): 2}
  )");
  auto items = py::dict_items(dict);
  EXPECT_TRUE(
      error_of([&] { py::sort_by_key_if_comparable(items); }).is_a(PyExc_ZeroDivisionError));
}

TEST(PyContainers, DictGetTellsMissingFromBroken) {
  const nb::object dict = eval("{'a': None}");
  EXPECT_TRUE(py::dict_get(dict, nb::str("a")).is_none());
  EXPECT_FALSE(py::dict_get(dict, nb::str("b")).is_valid());
  EXPECT_TRUE(error_of([&] { py::dict_get(dict, nb::list()); }).is_a(PyExc_TypeError));
}

TEST(PyContainers, RestoreDictKeepsIdentityAndOrder) {
  const nb::object dict = eval("{'b': 1, 'a': 2}");
  const nb::dict saved = py::copy_dict(dict);
  eval("lambda d: (d.pop('b'), d.update(c=3), d.update(a=9))")(dict);
  py::restore_dict(dict, saved);
  EXPECT_EQ(show(dict), "{'b': 1, 'a': 2}");
  EXPECT_FALSE(dict.is(saved));
}

TEST(PyContainers, ToDictCopiesOneLevel) {
  const nb::object inner = eval("FrozenDict({'x': {'y': 1}})");
  const nb::dict plain = py::to_dict(inner);
  EXPECT_EQ(show(plain), "{'x': FrozenDict({\n    y: 1,\n})}");
  const nb::object dict = eval("{'x': []}");
  const nb::dict copy = py::to_dict(dict);
  EXPECT_FALSE(copy.is(dict));
  EXPECT_TRUE(copy["x"].is(dict["x"]));
}

TEST(PyContainers, MappingsAreWhatPythonCallsMappings) {
  for (const char* yes : {"{}", "FrozenDict({})", "nnx.State({})", "types.MappingProxyType({})"}) {
    EXPECT_TRUE(py::is_mapping(eval(yes))) << yes;
  }
  for (const char* no : {"[]", "'text'", "None", "dict", "nnx.Param(1)", "nnx.Dict(a=1)"}) {
    EXPECT_EQ(py::is_mapping(eval(no)),
              nb::cast<bool>(eval("lambda x: isinstance(x, collections.abc.Mapping)")(eval(no))))
        << no;
  }
}

// --- objects

TEST(PyObject, GetOptionalSwallowsAttributeErrorsOnly) {
  const nb::object object = run(R"(
    class Object:
      here = 1
      @property
      def hidden(self):
        raise AttributeError
      @property
      def broken(self):
        raise ZeroDivisionError
    result = Object()
  )");
  EXPECT_EQ(show(py::get_optional(object, nb::str("here"))), "1");
  EXPECT_FALSE(py::get_optional(object, nb::str("missing")).is_valid());
  EXPECT_FALSE(py::get_optional(object, nb::str("hidden")).is_valid());
  EXPECT_EQ(PyErr_Occurred(), nullptr);
  EXPECT_TRUE(
      error_of([&] { py::get_optional(object, nb::str("broken")); }).is_a(PyExc_ZeroDivisionError));
  EXPECT_TRUE(error_of([&] { py::get(object, nb::str("missing")); }).is_a(PyExc_AttributeError));
}

TEST(PyObject, InstanceDictIsTheLiveOne) {
  const nb::object object = eval("types.SimpleNamespace(a=1)");
  py::instance_dict(object)["b"] = 2;
  EXPECT_EQ(show(object), "namespace(a=1, b=2)");
}

TEST(PyObject, InstanceDictOfAnObjectWithoutOneIsATypeError) {
  EXPECT_TRUE(error_of([] { py::instance_dict(nb::int_(1)); }).is_a(PyExc_TypeError));
}

TEST(PyObject, SubtypeTestsRunNoMetaclassCode) {
  const nb::object type = run(R"(
    class Meta(type):
      def __subclasscheck__(cls, other):
        raise AssertionError('was asked')
      __instancecheck__ = __subclasscheck__
    class Base(metaclass=Meta): pass
    class Derived(Base): pass
    result = Base, Derived
  )");
  EXPECT_TRUE(py::is_subtype(type[1], type[0]));
  EXPECT_FALSE(py::is_subtype(type[0], type[1]));
  EXPECT_TRUE(error_of([&] { py::is_instance(nb::int_(1), type[0]); }).is_a(PyExc_AssertionError));
}

TEST(PyObject, EqualHandsOnErrors) {
  EXPECT_TRUE(py::equal(nb::int_(1), nb::float_(1.0)));
  EXPECT_TRUE(
      error_of([] { py::equal(eval("jnp.ones(2)"), eval("jnp.ones(2)")); }).is_a(PyExc_ValueError));
}

TEST(PyObject, TypeNamesAreThoseOfTheSource) {
  EXPECT_EQ(py::type_name(eval("nnx.Linear")), "Linear");
  EXPECT_EQ(py::type_name(run("class Local: pass\nresult = Local")), "Local");
  EXPECT_EQ(py::type_name(run(R"(
    def f():
      class Outer:
        class Inner: pass
      return Outer.Inner
    result = f()
  )")),
            "Outer.Inner");
}

TEST(PyObject, DescribeNamesWhatUsersKnow) {
  EXPECT_EQ(py::describe(nb::none()), "None");
  EXPECT_EQ(py::describe(nb::object()), "None");
  EXPECT_EQ(py::describe(nb::str("x")), "the string 'x'");
  EXPECT_EQ(py::describe(nb::bool_(true)), "True");
  EXPECT_EQ(py::describe(eval("nnx.Linear")), "the class Linear");
  EXPECT_EQ(py::describe(eval("nnx.Param(1)")), "an instance of Param");
}

TEST(PyObject, DescribeRunsNoCodeOfTheObject) {
  const nb::object objects = run(R"(
    def fail(*args):
      raise AssertionError('was asked')
    class Meta(type):
      __repr__ = __str__ = fail
    class Object(metaclass=Meta):
      __repr__ = __str__ = __format__ = __bool__ = __len__ = __hash__ = __eq__ = fail
    class Text(str):
      __repr__ = __str__ = __format__ = fail
    result = [Object, Object(), Text('x')]
  )");
  EXPECT_EQ(py::describe(objects[0]), "the class Object");
  EXPECT_EQ(py::describe(objects[1]), "an instance of Object");
  EXPECT_EQ(py::describe(objects[2]), "the string 'x'");
}

// Whatever a user's string holds, the error about it must be the error that is meant.
TEST(PyObject, DescribeGivesTextThatAnErrorCanHold) {
  for (const char* source :
       {R"('\xe9' * 100)", R"('a' + '\U0001F600' * 100)", R"('\ud800')", R"('a\0b')"}) {
    const Error error =
        error_of([&] { raise_value_error({"here", "x", py::describe(eval(source)), "Do y."}); });
    EXPECT_TRUE(error.is_a(PyExc_ValueError)) << source;
    EXPECT_FALSE(error.is_a(PyExc_UnicodeError)) << source << ": " << error.text;
    EXPECT_THAT(error.text, HasSubstr("Do y.")) << source;
  }
}

TEST(PyNames, AreInterned) {
  const nb::object same = eval("lambda name, text: name is sys.intern(text)");
  EXPECT_TRUE(nb::cast<bool>(same(py::names().call_dunder, "__call__")));
  EXPECT_TRUE(nb::cast<bool>(same(py::names().init_dunder, "__init__")));
  EXPECT_EQ(&py::names(), &py::names());
}

// --- the recursion guard

constexpr int kDeepest = 1'000'000;  // more than any interpreter allows

int depth_reached(int depth = 0) {
  const py::RecursionGuard guard(" in a test");
  if (depth == kDeepest) return depth;
  try {
    return depth_reached(depth + 1);
  } catch (nb::python_error&) {
    return depth;
  }
}

void descend(int levels) {
  const py::RecursionGuard guard(" in a test");
  if (levels == 0) throw std::runtime_error("from below");
  descend(levels - 1);
}

TEST(PyRecursion, TooDeepIsARecursionErrorThatSaysWhere) {
  const Error error = error_of([] { descend(kDeepest); });
  EXPECT_TRUE(error.is_a(PyExc_RecursionError));
  EXPECT_THAT(error.text, HasSubstr("in a test"));
}

TEST(PyRecursion, EveryWayOutLeavesTheLevel) {
  const int first = depth_reached();
  EXPECT_GT(first, 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_THROW(descend(100), std::runtime_error);
    EXPECT_TRUE(error_of([] { descend(kDeepest); }).is_a(PyExc_RecursionError));
  }
  EXPECT_EQ(depth_reached(), first);
}

// --- errors

TEST(PyErrors, OneSentenceWithEveryPart) {
  EXPECT_EQ(format({"call, a/b", "an int", "None", "Pass 1."}),
            "call, a/b: expected an int, got None. Pass 1.");
  EXPECT_EQ(format({"call", "an int", "None", ""}), "call: expected an int, got None.");
}

TEST(PyErrors, EachFunctionRaisesItsOwnType) {
  const Problem problem{"call", "an int", "None", "Pass 1."};
  EXPECT_TRUE(error_of([&] { raise_value_error(problem); }).type.is(PyExc_ValueError));
  EXPECT_TRUE(error_of([&] { raise_type_error(problem); }).type.is(PyExc_TypeError));
  EXPECT_TRUE(error_of([&] { raise_attribute_error(problem); }).type.is(PyExc_AttributeError));
}

TEST(PyErrors, TheCauseIsChained) {
  const Error error = error_of([] {
    try {
      eval("{}['missing']");
    } catch (nb::python_error& cause) {
      raise_value_error_from(cause, {"call", "a key", "none", ""});
    }
  });
  EXPECT_TRUE(error.type.is(PyExc_ValueError));
  EXPECT_EQ(show(error.value.attr("__cause__")), "KeyError('missing')");
}

TEST(PyErrors, AnInternalErrorNamesItsSite) {
  EXPECT_THAT(InternalError("broken").what(),
              AllOf(HasSubstr("broken"), HasSubstr("py_test.cc:"), HasSubstr("please report")));
}

// --- the interpreter that main.cc started

TEST(PyInterpreter, RunsTheGivenEnvironment) {
  EXPECT_EQ(show(eval("sys.argv")), "['tests', 'argument']");
  EXPECT_TRUE(nb::cast<bool>(eval("sys.prefix != sys.base_prefix")));
  EXPECT_TRUE(nb::cast<bool>(eval("sys.executable.startswith(sys.prefix)")));
}

TEST(PyInterpreter, RefusesAProgramThatIsMissing) { EXPECT_FALSE(started_without_program); }

TEST(PyInterpreter, IsTheOnlyOne) { EXPECT_THROW(Interpreter(), std::logic_error); }

}  // namespace

}  // namespace nnx_wrappers::testing
