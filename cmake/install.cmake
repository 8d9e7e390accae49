# cmake --install: headers, both libraries, all programs, and Gatewright::core and Gatewright::gatewright for
# find_package(Gatewright).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(targets gatewright_core)
if(GATEWRIGHT_TENSOR)
  list(APPEND targets gatewright gatewright_torch)
  install(TARGETS gatewright_program gatewright-tensor gatewright-lab RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
set_target_properties(gatewright_core PROPERTIES EXPORT_NAME core)
install(TARGETS ${targets} EXPORT GatewrightTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY src/gatewright DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT GatewrightTargets NAMESPACE Gatewright:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Gatewright)
configure_package_config_file(cmake/GatewrightConfig.cmake.in ${CMAKE_BINARY_DIR}/GatewrightConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Gatewright)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/GatewrightConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/GatewrightConfig.cmake ${CMAKE_BINARY_DIR}/GatewrightConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Gatewright)
