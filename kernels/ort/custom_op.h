// Describes a C++ kernel class to ONNX Runtime as a custom op.
#pragma once
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "kernel_io.h"
#include "library.h"

namespace switchyard::ort {

struct Argument {
  ElementType type;
  ArgumentKind kind = kRequired;
  // On a device: whether the kernel reads this input on the host.
  bool on_host = false;
};

// An op's signature. Attributes are read by the kernel's constructor.
struct OpSchema {
  const char* name;
  std::vector<Argument> inputs;
  std::vector<Argument> outputs;
};

// The op as one session sees it. ONNX Runtime passes this object back when it creates a kernel, which is how
// a kernel meets its session's Context. Kernel has a constructor from (KernelInfo, Context&) and `void
// Compute(KernelContext&)`; exceptions from either become failed statuses.
template <typename Kernel, typename Context>
struct CustomOp : OrtCustomOp {
  Context* session;
  OpSchema schema;
  const char* provider;  // null: the CPU's

  CustomOp(Context& context, OpSchema op_schema, const char* execution_provider)
      : OrtCustomOp{}, session(&context), schema(std::move(op_schema)), provider(execution_provider) {
    version = kApiVersion;
    GetName = [](const OrtCustomOp* op) { return Self(op).schema.name; };
    GetExecutionProviderType = [](const OrtCustomOp* op) { return Self(op).provider; };
    GetInputTypeCount = [](const OrtCustomOp* op) { return Self(op).schema.inputs.size(); };
    GetInputType = [](const OrtCustomOp* op, size_t i) { return Self(op).schema.inputs[i].type; };
    GetInputCharacteristic = [](const OrtCustomOp* op, size_t i) { return Self(op).schema.inputs[i].kind; };
    GetOutputTypeCount = [](const OrtCustomOp* op) { return Self(op).schema.outputs.size(); };
    GetOutputType = [](const OrtCustomOp* op, size_t i) { return Self(op).schema.outputs[i].type; };
    GetOutputCharacteristic = [](const OrtCustomOp* op, size_t i) { return Self(op).schema.outputs[i].kind; };
    GetInputMemoryType = [](const OrtCustomOp* op, size_t i) {
      const bool on_host = Self(op).provider != nullptr && Self(op).schema.inputs[i].on_host;
      return on_host ? kMemoryCpuInput : kMemoryDefault;
    };
    GetVariadicInputMinArity = GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    GetVariadicInputHomogeneity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 1; };
    CreateKernelV2 = Create;
    KernelComputeV2 = Compute;
    KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

  static const CustomOp& Self(const OrtCustomOp* op) { return *static_cast<const CustomOp*>(op); }

  static OrtStatus* Create(const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
    return Guard([&] { *kernel = new Kernel(KernelInfo(info, Self(op).schema.name), *Self(op).session); });
  }

  static OrtStatus* Compute(void* kernel, OrtKernelContext* raw) {
    return Guard([&] {
      KernelContext context(raw);
      static_cast<Kernel*>(kernel)->Compute(context);
    });
  }

  template <typename Body>
  static OrtStatus* Guard(Body body) {
    try {
      body();
      return nullptr;
    } catch (const std::exception& error) {
      return Api().CreateStatus(kFail, error.what());
    }
  }
};

// An op of whatever kernel.
using OpPtr = std::shared_ptr<OrtCustomOp>;

template <typename Kernel, typename Context>
OpPtr MakeOp(Context& context, OpSchema schema, const char* provider) {
  return std::make_shared<CustomOp<Kernel, Context>>(context, std::move(schema), provider);
}

// Ops under one name. Must outlive the session it was added to.
class OpDomain {
 public:
  OpDomain(const char* name, std::vector<OpPtr> ops) : ops_(std::move(ops)) {
    OrtCustomOpDomain* domain = nullptr;
    Check(Api().CreateCustomOpDomain(name, &domain));
    domain_.reset(domain);
    for (const OpPtr& op : ops_) Check(Api().CustomOpDomain_Add(domain, op.get()));
  }

  OrtCustomOpDomain* get() const { return domain_.get(); }

 private:
  std::vector<OpPtr> ops_;
  DomainPtr domain_;  // freed before the ops that it names
};

}  // namespace switchyard::ort
