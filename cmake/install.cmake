# The C++ library as a CMake package inside the Python package: headers, the static
# library, and the nanobind that it was built with (its version is part of the ABI).
include(CMakePackageConfigHelpers)

set(root nnx_wrappers)
list(GET NNX_WRAPPERS_NANOBIND_INCLUDES 0 nanobind_include)
foreach(directory IN LISTS NNX_WRAPPERS_NANOBIND_INCLUDES)
  if(EXISTS "${directory}/nanobind/nanobind.h")
    set(nanobind_include "${directory}")
  endif()
endforeach()
install(DIRECTORY include/nnx_wrappers DESTINATION ${root}/include)
install(DIRECTORY "${nanobind_include}/nanobind" DESTINATION ${root}/include
        FILES_MATCHING PATTERN "*.h")
install(TARGETS nnx_wrappers ARCHIVE DESTINATION ${root}/lib)
install(FILES $<TARGET_FILE:nanobind-static> DESTINATION ${root}/lib)
configure_file(cmake/nnx_wrappersConfig.cmake.in nnx_wrappersConfig.cmake @ONLY)
write_basic_package_version_file(nnx_wrappersConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/nnx_wrappersConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/nnx_wrappersConfigVersion.cmake"
        DESTINATION ${root}/cmake)
