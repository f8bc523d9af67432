# The library as a static target that is made of the sources under `root`: in this project, and
# in that of a user, who has them installed. It is static since nanobind keeps its state inside
# each binary. `nanobind` is the target of nanobind's own sources.
function(nnx_wrappers_add_library root nanobind)
  file(GLOB sources CONFIGURE_DEPENDS
       "${root}/src/py/*.cc" "${root}/src/upstream/*.cc" "${root}/src/upstream/*/*.cc"
       "${root}/src/graph/*.cc" "${root}/src/bridge/*/*.cc")
  add_library(nnx_wrappers STATIC ${sources})
  target_compile_features(nnx_wrappers PUBLIC cxx_std_20)
  set_target_properties(nnx_wrappers PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  target_include_directories(nnx_wrappers PUBLIC "${root}/include" PRIVATE "${root}/src")
  target_link_libraries(nnx_wrappers PUBLIC ${nanobind})
endfunction()
