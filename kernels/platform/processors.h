// The processors that this process may use.
#pragma once

namespace switchyard::platform {

// Physical cores, hyper-threads counted once; 0 where others know better (Linux has files for that) or there
// are no hyper-threads to speak of (macOS).
int PhysicalCores();

// Logical processors that this process may run on; at least 1.
int UsableProcessors();

// What a 64-bit Arm processor can do beyond what all can; nothing on others.
struct ArmFeatures {
  bool dotprod = false;  // FEAT_DotProd
  bool i8mm = false;     // FEAT_I8MM
};
ArmFeatures FindArmFeatures();

// Whether this process may use the matrix tiles that an x86-64 processor has (AMX), after asking the system
// for leave: threads that use them have several KiB more to save.
bool AllowMatrixTiles();

}  // namespace switchyard::platform
