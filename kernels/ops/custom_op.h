// Describes a C++ kernel class to ONNX Runtime as a custom op.
#pragma once
#include <exception>
#include <vector>

#include "kernel_io.h"
#include "ort_library.h"
#include "session_context.h"

namespace switchyard::ops {

struct Argument {
  ort::ElementType type;
  ort::ArgumentKind kind = ort::kRequired;
};

// An op's signature. Attributes are read by the kernel's constructor.
struct OpSchema {
  const char* name;
  std::vector<Argument> inputs;
  std::vector<Argument> outputs;
};

// The op as one session sees it. ONNX Runtime passes this object back when it creates a kernel, which is how
// a kernel meets its session. Kernel has `static const OpSchema kSchema`, a constructor from (KernelInfo,
// SessionContext&) and `void Compute(KernelContext&)`; exceptions from either become failed statuses.
template <typename Kernel>
struct CustomOp : ort::OrtCustomOp {
  SessionContext* session;

  explicit CustomOp(SessionContext& context) : ort::OrtCustomOp{}, session(&context) {
    version = ort::kApiVersion;
    GetName = [](const OrtCustomOp*) { return Kernel::kSchema.name; };
    GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU
    GetInputTypeCount = [](const OrtCustomOp*) { return Kernel::kSchema.inputs.size(); };
    GetInputType = [](const OrtCustomOp*, size_t i) { return Kernel::kSchema.inputs[i].type; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t i) { return Kernel::kSchema.inputs[i].kind; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return Kernel::kSchema.outputs.size(); };
    GetOutputType = [](const OrtCustomOp*, size_t i) { return Kernel::kSchema.outputs[i].type; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t i) { return Kernel::kSchema.outputs[i].kind; };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return ort::kMemoryDefault; };
    GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = Create;
    KernelComputeV2 = Compute;
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

  static ort::OrtStatus* Create(const OrtCustomOp* op, const ort::OrtApi*, const ort::OrtKernelInfo* info,
                                void** kernel) {
    return Guard([&] {
      *kernel =
          new Kernel(KernelInfo(info, Kernel::kSchema.name), *static_cast<const CustomOp*>(op)->session);
    });
  }

  static ort::OrtStatus* Compute(void* kernel, ort::OrtKernelContext* raw) {
    return Guard([&] {
      KernelContext context(raw);
      static_cast<Kernel*>(kernel)->Compute(context);
    });
  }

  template <typename Body>
  static ort::OrtStatus* Guard(Body body) {
    try {
      body();
      return nullptr;
    } catch (const std::exception& error) {
      return ort::Api().CreateStatus(ort::kFail, error.what());
    }
  }
};

}  // namespace switchyard::ops
