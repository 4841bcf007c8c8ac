// LaunchLinear through cuBLASLt: the only file that knows it. Built where cublasLt.h exists; gemm_plain.cu
// takes its place elsewhere.
#include <cublasLt.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "../common/launch.h"
#include "../kernels.h"

namespace switchyard::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr uint32_t kPointerAlignment = 256;

#define SWITCHYARD_RETURN_IF_CUBLAS_ERROR(expression)                                            \
  do {                                                                                           \
    const cublasStatus_t status_of_expression = (expression);                                    \
    if (status_of_expression != CUBLAS_STATUS_SUCCESS) return ToCudaError(status_of_expression); \
  } while (0)

cudaError_t ToCudaError(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return cudaSuccess;
    case CUBLAS_STATUS_ALLOC_FAILED:
      return cudaErrorMemoryAllocation;
    case CUBLAS_STATUS_INVALID_VALUE:
      return cudaErrorInvalidValue;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return cudaErrorNotSupported;
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return cudaErrorInitializationError;
    default:
      return cudaErrorUnknown;
  }
}

cudaDataType_t ToCudaType(DType dtype) {
  if (dtype == DType::kFloat32) return CUDA_R_32F;
  return dtype == DType::kBFloat16 ? CUDA_R_16BF : CUDA_R_16F;
}

// Descriptors own what the C interface creates.
struct DescriptorDeleter {
  void operator()(cublasLtMatmulDescOpaque_t* d) const { cublasLtMatmulDescDestroy(d); }
  void operator()(cublasLtMatrixLayoutOpaque_t* d) const { cublasLtMatrixLayoutDestroy(d); }
  void operator()(cublasLtMatmulPreferenceOpaque_t* d) const { cublasLtMatmulPreferenceDestroy(d); }
};
template <typename Opaque>
using Descriptor = std::unique_ptr<Opaque, DescriptorDeleter>;

cublasStatus_t MakeLayout(DType dtype, int64_t rows, int64_t columns, int64_t leading,
                          Descriptor<cublasLtMatrixLayoutOpaque_t>* out) {
  cublasLtMatrixLayout_t layout = nullptr;
  const cublasStatus_t status =
      cublasLtMatrixLayoutCreate(&layout, ToCudaType(dtype), rows, columns, leading);
  out->reset(layout);
  return status;
}

template <typename Value>
cublasStatus_t SetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t name,
                            const Value& value) {
  return cublasLtMatmulDescSetAttribute(operation, name, &value, sizeof(value));
}

// Row-major out[m, n] = a . w^T is, read as columns, out[n, m] = w a: w comes first, transposed unless it
// already lies [k, n].
struct Problem {
  Descriptor<cublasLtMatmulDescOpaque_t> operation;
  Descriptor<cublasLtMatrixLayoutOpaque_t> w, a, out;
};

cudaError_t MakeOperation(const LinearArgs& args, Descriptor<cublasLtMatmulDescOpaque_t>* out) {
  cublasLtMatmulDesc_t operation = nullptr;
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  out->reset(operation);
  const cublasOperation_t w_operation = args.transposed ? CUBLAS_OP_N : CUBLAS_OP_T;
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, w_operation));
  if (args.bias == nullptr) return cudaSuccess;
  const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue));
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias));
  return cudaSuccess;
}

cudaError_t MakeProblem(const LinearArgs& args, Problem* problem) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(MakeOperation(args, &problem->operation));
  const int64_t w_rows = args.transposed ? args.n : args.k;
  const int64_t w_columns = args.transposed ? args.k : args.n;
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(MakeLayout(args.dtype, w_rows, w_columns, args.w_stride, &problem->w));
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(MakeLayout(args.dtype, args.k, args.m, args.a_stride, &problem->a));
  SWITCHYARD_RETURN_IF_CUBLAS_ERROR(
      MakeLayout(args.out_dtype, args.n, args.m, args.out_stride, &problem->out));
  return cudaSuccess;
}

// The largest power of two, up to kPointerAlignment, that divides an address: what an algorithm may rely on.
uint32_t AlignmentOf(const void* pointer) {
  uint32_t alignment = kPointerAlignment;
  while (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) alignment /= 2;
  return alignment;
}

// Everything an algorithm's choice depends on.
using AlgorithmKey = std::array<int64_t, 13>;
AlgorithmKey KeyOf(const LinearArgs& args) {
  return {static_cast<int64_t>(args.dtype),
          static_cast<int64_t>(args.out_dtype),
          args.m,
          args.n,
          args.k,
          args.a_stride,
          args.w_stride,
          args.out_stride,
          args.transposed,
          args.bias != nullptr,
          AlignmentOf(args.a),
          AlignmentOf(args.w),
          AlignmentOf(args.out)};
}

}  // namespace

class GemmContext {
 public:
  ~GemmContext() {
    if (workspace_ != nullptr) cudaFree(workspace_);
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }

  cudaError_t Open() {
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(cublasLtCreate(&handle_));
    SWITCHYARD_RETURN_IF_CUDA_ERROR(counter_.Open());
    return cudaMalloc(&workspace_, kWorkspaceBytes);
  }

  int* counter() const { return counter_.get(); }

  cudaError_t Run(const LinearArgs& args, cudaStream_t stream) {
    Problem problem;
    SWITCHYARD_RETURN_IF_CUDA_ERROR(MakeProblem(args, &problem));
    cublasLtMatmulAlgo_t algorithm;
    SWITCHYARD_RETURN_IF_CUDA_ERROR(Choose(args, problem, &algorithm));
    const float one = 1.0f;
    const float zero = 0.0f;
    return ToCudaError(cublasLtMatmul(handle_, problem.operation.get(), &one, args.w, problem.w.get(), args.a,
                                      problem.a.get(), &zero, args.out, problem.out.get(), args.out,
                                      problem.out.get(), &algorithm, workspace_, kWorkspaceBytes, stream));
  }

 private:
  // The heuristic's first choice, asked once for every kind of problem.
  cudaError_t Choose(const LinearArgs& args, const Problem& problem, cublasLtMatmulAlgo_t* algorithm) {
    const AlgorithmKey key = KeyOf(args);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = algorithms_.find(key);
    if (known != algorithms_.end()) {
      *algorithm = known->second;
      return cudaSuccess;
    }
    SWITCHYARD_RETURN_IF_CUDA_ERROR(AskHeuristic(args, problem, algorithm));
    algorithms_.emplace(key, *algorithm);
    return cudaSuccess;
  }

  cudaError_t AskHeuristic(const LinearArgs& args, const Problem& problem, cublasLtMatmulAlgo_t* algorithm) {
    cublasLtMatmulPreference_t raw = nullptr;
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(cublasLtMatmulPreferenceCreate(&raw));
    const Descriptor<cublasLtMatmulPreferenceOpaque_t> preference(raw);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
      return cublasLtMatmulPreferenceSetAttribute(raw, name, &value, sizeof(value));
    };
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes));
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, AlignmentOf(args.w)));
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, AlignmentOf(args.a)));
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, AlignmentOf(args.out)));
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, AlignmentOf(args.out)));
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    SWITCHYARD_RETURN_IF_CUBLAS_ERROR(
        cublasLtMatmulAlgoGetHeuristic(handle_, problem.operation.get(), problem.w.get(), problem.a.get(),
                                       problem.out.get(), problem.out.get(), raw, 1, &result, &found));
    if (found == 0) return cudaErrorNotSupported;
    *algorithm = result.algo;
    return cudaSuccess;
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;  // shared by the context's products, which therefore run on one stream
  BlockCounter counter_;
  std::mutex mutex_;
  std::map<AlgorithmKey, cublasLtMatmulAlgo_t> algorithms_;
};

cudaError_t CreateGemmContext(GemmContext** context) {
  std::unique_ptr<GemmContext> made(new (std::nothrow) GemmContext());
  if (made == nullptr) return cudaErrorMemoryAllocation;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(made->Open());
  *context = made.release();
  return cudaSuccess;
}

void DestroyGemmContext(GemmContext* context) { delete context; }

int* BlockCounterOf(const GemmContext& gemm) { return gemm.counter(); }

bool GemmUsesCublasLt() { return true; }

cudaError_t LaunchLinear(GemmContext& gemm, const LinearArgs& args, cudaStream_t stream) {
  SWITCHYARD_RETURN_IF_CUDA_ERROR(CheckLinearArgs(args));
  if (args.coded) return LaunchCodedLinear(args, stream);
  if (args.m == 0) return cudaSuccess;
  if (args.bias == nullptr || args.out_dtype == args.dtype) return gemm.Run(args, stream);
  // cuBLASLt's epilogue wants a bias of the output's type.
  LinearArgs product = args;
  product.bias = nullptr;
  SWITCHYARD_RETURN_IF_CUDA_ERROR(gemm.Run(product, stream));
  return LaunchAddBias(args, stream);
}

}  // namespace switchyard::cuda
