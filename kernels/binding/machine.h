// What the machine is and can do, for `switchyard bench`.
#pragma once
#include <napi.h>

namespace switchyard::binding {

// cpuInfo(): { isa: string, features: string[], problem: string, cores: number }. `problem` says why
// SWITCHYARD_CPU_ISA was not followed; `cores` are platform::PhysicalCores().
Napi::Value CpuInfo(const Napi::CallbackInfo& info);

// measureReadBandwidth(bytes, seconds, threads): Promise<{ gigabytesPerSecond: number, pattern: string }>
Napi::Value MeasureReadBandwidth(const Napi::CallbackInfo& info);

// measureFlops(precision: 0 | 1, seconds, threads): Promise<number> in GFLOP/s
Napi::Value MeasureFlops(const Napi::CallbackInfo& info);

}  // namespace switchyard::binding
