#!/bin/sh
# Builds the wheel of one Python for one platform: build.sh PYTHON PLATFORM SOURCE FOLDER
# PYTHON has the requirements beside this file, its version is that of the wheel; PLATFORM is the
# last part of the wheel's name; SOURCE is an unpacked sdist; the wheel goes to FOLDER/dist. The compiler is Zig's clang, which
# knows each platform's C library, and links its own libc++. It compiles that first, and keeps it for
# the Zig of the same path: ZIG_PYTHON is the Python that has it, of another wheel's perhaps.
set -eu
python=$1
platform=$2
source=$(realpath "$3")
mkdir -p "$4/dist"
folder=$(realpath "$4")

case $platform in
  manylinux_2_17_x86_64) target=x86_64-linux-gnu.2.17 system=Linux suffix=x86_64-linux-gnu ;;
  manylinux_2_17_aarch64) target=aarch64-linux-gnu.2.17 system=Linux suffix=aarch64-linux-gnu ;;
  macosx_11_0_arm64) target=aarch64-macos.11.0 system=Darwin suffix=darwin ;;
  *)
    echo "build.sh: expected manylinux_2_17_x86_64, manylinux_2_17_aarch64 or macosx_11_0_arm64, got $platform" >&2
    exit 1
    ;;
esac
include=
if [ $system = Darwin ]; then
  include=${MACOS_PYTHON_INCLUDE:?"the folder with the Python.h of a Python for macOS, of the version of $python"}
fi
tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag)')
work=$folder/work-$tag-$platform
line=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
rm -rf "$work"
mkdir -p "$work/bin"
python=$("$python" -c 'import sys; print(sys.executable)')

zig=${ZIG_PYTHON:-$python}

# CMake wants programs, and the target is part of the call.
for tool in cc c++ ar ranlib; do
  options=
  case $tool in c*) options="-target $target" ;; esac
  {
    echo '#!/bin/sh'
    if [ $system = Darwin ] && [ "$tool" = c++ ]; then
      # Zig's linker for macOS makes no bundles, but dynamic libraries, which dlopen loads as well.
      # It takes no list of the symbols that are looked up when the extension is loaded, and none of
      # those to export.
      cat <<'EOF'
for argument; do
  shift
  case $argument in
    -bundle) set -- "$@" -dynamiclib ;;
    -Wl,@*.sym) set -- "$@" -undefined dynamic_lookup ;;
    -Xlinker | -exported_symbol | _PyInit__core) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
EOF
    fi
    printf 'exec "%s" -m ziglang %s %s "$@"\n' "$zig" "$tool" "$options"
  } >"$work/bin/$tool"
done
chmod +x "$work/bin/"*

# No path of this machine gets into the wheel.
# Zig keeps the frame pointer unless it is told not to.
flags="-fomit-frame-pointer -ffile-prefix-map=$source=. -ffile-prefix-map=$work=."
PATH=$(dirname "$python"):$PATH \
  CC=$work/bin/cc CXX=$work/bin/c++ CFLAGS=$flags CXXFLAGS=$flags \
  ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$folder/zig-cache}" ZIG_LOCAL_CACHE_DIR="$work/zig-cache" \
  SETUPTOOLS_EXT_SUFFIX=.$tag-$suffix.so \
  "$python" -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
  --wheel-dir "$folder/dist" "$source" \
  --config-settings=build-dir="$work/build" \
  --config-settings=wheel.tags="$line-$line-$platform" \
  --config-settings=cmake.define.CMAKE_SYSTEM_NAME=$system \
  --config-settings=cmake.define.CMAKE_SYSTEM_PROCESSOR="${target%%-*}" \
  ${include:+--config-settings=cmake.define.Python_INCLUDE_DIR="$include"} \
  --config-settings=cmake.define.CMAKE_AR="$work/bin/ar" \
  --config-settings=cmake.define.CMAKE_RANLIB="$work/bin/ranlib"
