// The part of ONNX Runtime's C ABI that Switchyard uses, declared by hand. OrtApi is an append-only table of
// function pointers, so a function is a position in it; positions never change once released. All of these
// exist since API 18.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../common/element_types.h"

namespace switchyard::ort {

constexpr uint32_t kApiVersion = 18;

struct OrtApi;  // the table itself, only ever indexed
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtArenaCfg;

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

using onnx::ElementType;
using enum onnx::ElementType;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };
enum LoggingLevel : int { kLogError = 3 };
enum AllocatorType : int { kDeviceAllocator = 0, kArenaAllocator = 1 };
enum MemoryType : int { kMemoryCpuInput = -2, kMemoryDefault = 0 };
enum OptimizationLevel : int {
  kOptimizeNone = 0,
  kOptimizeBasic = 1,
  kOptimizeExtended = 2,
  kOptimizeAll = 99
};
enum ArgumentKind : int { kRequired = 0, kOptional = 1, kVariadic = 2 };

// What the CUDA provider is told; field order is the ABI. The older of two ways: the newer is refused by
// builds that have the provider in a library of its own.
struct OrtCudaProviderOptions {
  int device_id = 0;
  int cudnn_conv_algo_search = 0;
  size_t gpu_mem_limit = SIZE_MAX;
  int arena_extend_strategy = 0;
  int do_copy_in_default_stream = 1;
  int has_user_compute_stream = 0;
  void* user_compute_stream = nullptr;
  OrtArenaCfg* default_memory_arena_cfg = nullptr;
  int tunable_op_enable = 0;
  int tunable_op_tuning_enable = 0;
  int tunable_op_max_tuning_duration_ms = 0;
};

// The operator description ORT reads; field order is the ABI. `version` tells ORT which fields exist.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ElementType (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ElementType (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  ArgumentKind (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  ArgumentKind (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  MemoryType (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShape)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};

// F(name, position in OrtApi, result, (parameters))
#define SWITCHYARD_ORT_FUNCTIONS(F)                                                                     \
  F(CreateStatus, 0, OrtStatus*, (ErrorCode, const char*))                                              \
  F(GetErrorCode, 1, ErrorCode, (const OrtStatus*))                                                     \
  F(GetErrorMessage, 2, const char*, (const OrtStatus*))                                                \
  F(CreateEnv, 3, OrtStatus*, (LoggingLevel, const char*, OrtEnv**))                                    \
  F(DisableTelemetryEvents, 6, OrtStatus*, (const OrtEnv*))                                             \
  F(CreateSessionFromArray, 8, OrtStatus*,                                                              \
    (const OrtEnv*, const void*, size_t, const OrtSessionOptions*, OrtSession**))                       \
  F(Run, 9, OrtStatus*,                                                                                 \
    (OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, size_t,             \
     const char* const*, size_t, OrtValue**))                                                           \
  F(CreateSessionOptions, 10, OrtStatus*, (OrtSessionOptions**))                                        \
  F(SetSessionLogSeverityLevel, 22, OrtStatus*, (OrtSessionOptions*, int))                              \
  F(SetSessionGraphOptimizationLevel, 23, OrtStatus*, (OrtSessionOptions*, OptimizationLevel))          \
  F(SetIntraOpNumThreads, 24, OrtStatus*, (OrtSessionOptions*, int))                                    \
  F(SetInterOpNumThreads, 25, OrtStatus*, (OrtSessionOptions*, int))                                    \
  F(CreateCustomOpDomain, 26, OrtStatus*, (const char*, OrtCustomOpDomain**))                           \
  F(CustomOpDomain_Add, 27, OrtStatus*, (OrtCustomOpDomain*, const OrtCustomOp*))                       \
  F(AddCustomOpDomain, 28, OrtStatus*, (OrtSessionOptions*, OrtCustomOpDomain*))                        \
  F(SessionGetInputCount, 30, OrtStatus*, (const OrtSession*, size_t*))                                 \
  F(SessionGetOutputCount, 31, OrtStatus*, (const OrtSession*, size_t*))                                \
  F(SessionGetInputTypeInfo, 33, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))                \
  F(SessionGetOutputTypeInfo, 34, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))               \
  F(SessionGetInputName, 36, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))            \
  F(SessionGetOutputName, 37, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))           \
  F(CreateRunOptions, 39, OrtStatus*, (OrtRunOptions**))                                                \
  F(RunOptionsSetTerminate, 46, OrtStatus*, (OrtRunOptions*))                                           \
  F(CreateTensorWithDataAsOrtValue, 49, OrtStatus*,                                                     \
    (const OrtMemoryInfo*, void*, size_t, const int64_t*, size_t, ElementType, OrtValue**))             \
  F(GetTensorMutableData, 51, OrtStatus*, (OrtValue*, void**))                                          \
  F(CastTypeInfoToTensorInfo, 55, OrtStatus*, (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**))  \
  F(GetTensorElementType, 60, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, ElementType*))             \
  F(GetDimensionsCount, 61, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, size_t*))                    \
  F(GetDimensions, 62, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int64_t*, size_t))                \
  F(GetSymbolicDimensions, 63, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, const char**, size_t))    \
  F(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue*, OrtTensorTypeAndShapeInfo**))              \
  F(CreateMemoryInfo, 68, OrtStatus*, (const char*, AllocatorType, int, MemoryType, OrtMemoryInfo**))   \
  F(CreateCpuMemoryInfo, 69, OrtStatus*, (AllocatorType, MemoryType, OrtMemoryInfo**))                  \
  F(AllocatorFree, 76, OrtStatus*, (OrtAllocator*, void*))                                              \
  F(GetAllocatorWithDefaultOptions, 78, OrtStatus*, (OrtAllocator**))                                   \
  F(KernelInfoGetAttribute_float, 85, OrtStatus*, (const OrtKernelInfo*, const char*, float*))          \
  F(KernelInfoGetAttribute_int64, 86, OrtStatus*, (const OrtKernelInfo*, const char*, int64_t*))        \
  F(KernelInfoGetAttribute_string, 87, OrtStatus*, (const OrtKernelInfo*, const char*, char*, size_t*)) \
  F(KernelContext_GetInput, 90, OrtStatus*, (const OrtKernelContext*, size_t, const OrtValue**))        \
  F(KernelContext_GetOutput, 91, OrtStatus*,                                                            \
    (OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**))                                    \
  F(ReleaseStatus, 93, void, (OrtStatus*))                                                              \
  F(ReleaseMemoryInfo, 94, void, (OrtMemoryInfo*))                                                      \
  F(ReleaseSession, 95, void, (OrtSession*))                                                            \
  F(ReleaseValue, 96, void, (OrtValue*))                                                                \
  F(ReleaseRunOptions, 97, void, (OrtRunOptions*))                                                      \
  F(ReleaseTypeInfo, 98, void, (OrtTypeInfo*))                                                          \
  F(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo*))                              \
  F(ReleaseSessionOptions, 100, void, (OrtSessionOptions*))                                             \
  F(ReleaseCustomOpDomain, 101, void, (OrtCustomOpDomain*))                                             \
  F(AddSessionConfigEntry, 130, OrtStatus*, (OrtSessionOptions*, const char*, const char*))             \
  F(SessionOptionsAppendExecutionProvider_CUDA, 152, OrtStatus*,                                        \
    (OrtSessionOptions*, const OrtCudaProviderOptions*))                                                \
  F(KernelInfoGetAttributeArray_int64, 163, OrtStatus*,                                                 \
    (const OrtKernelInfo*, const char*, int64_t*, size_t*))                                             \
  F(AddRunConfigEntry, 165, OrtStatus*, (OrtRunOptions*, const char*, const char*))                     \
  F(KernelInfo_GetInputCount, 230, OrtStatus*, (const OrtKernelInfo*, size_t*))                         \
  F(KernelInfo_GetOutputCount, 231, OrtStatus*, (const OrtKernelInfo*, size_t*))                        \
  F(KernelInfo_GetNodeName, 244, OrtStatus*, (const OrtKernelInfo*, char*, size_t*))

// The functions above as typed pointers.
struct Functions {
#define SWITCHYARD_ORT_DECLARE(name, position, result, parameters) result(*name) parameters;
  SWITCHYARD_ORT_FUNCTIONS(SWITCHYARD_ORT_DECLARE)
#undef SWITCHYARD_ORT_DECLARE
};

}  // namespace switchyard::ort
