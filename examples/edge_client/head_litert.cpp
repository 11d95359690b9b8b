// The head through LiteRT's C API, which libLiteRt.so exports (ai-edge-litert 2.3.0 has
// it in its wheel, without headers). The declarations are those of litert/c/*.h at
// https://github.com/google-ai-edge/LiteRT that are used here; with headers at hand,
// include litert/c/litert_compiled_model.h, litert_model.h, litert_options.h and
// litert_tensor_buffer.h in their place.
#include <cstring>
#include <stdexcept>
#include <string>

#include "head.h"

extern "C" {
typedef struct LiteRtEnvironmentT* LiteRtEnvironment;
typedef struct LiteRtModelT* LiteRtModel;
typedef struct LiteRtSignatureT* LiteRtSignature;
typedef struct LiteRtTensorT* LiteRtTensor;
typedef struct LiteRtOptionsT* LiteRtOptions;
typedef struct LiteRtCompiledModelT* LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT* LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT* LiteRtTensorBufferRequirements;
typedef struct {  // 72 bytes, stable by LiteRT's own word
  int32_t element_type;
  uint32_t rank : 7, has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
} LiteRtRankedTensorType;
enum { kInt32 = 2, kUInt8 = 3, kCpu = 1, kRead = 0, kWrite = 1 };

int LiteRtCreateEnvironment(int, const void*, LiteRtEnvironment*);
int LiteRtCreateModelFromFile(LiteRtEnvironment, const char*, LiteRtModel*);
int LiteRtCreateOptions(LiteRtOptions*);
int LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, int);
int LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions,
                              LiteRtCompiledModel*);
int LiteRtGetModelSignature(LiteRtModel, size_t, LiteRtSignature*);
int LiteRtGetNumSignatureInputs(LiteRtSignature, size_t*);
int LiteRtGetNumSignatureOutputs(LiteRtSignature, size_t*);
int LiteRtGetSignatureOutputName(LiteRtSignature, size_t, const char**);
int LiteRtGetSignatureInputTensorByIndex(LiteRtSignature, size_t, LiteRtTensor*);
int LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature, size_t, LiteRtTensor*);
int LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType*);
int LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel, size_t, size_t,
                                                  LiteRtTensorBufferRequirements*);
int LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel, size_t, size_t,
                                                   LiteRtTensorBufferRequirements*);
int LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment,
                                                    const LiteRtRankedTensorType*,
                                                    LiteRtTensorBufferRequirements,
                                                    LiteRtTensorBuffer*);
int LiteRtRunCompiledModel(LiteRtCompiledModel, size_t, size_t, LiteRtTensorBuffer*,
                           size_t, LiteRtTensorBuffer*);
int LiteRtLockTensorBuffer(LiteRtTensorBuffer, void**, int);
int LiteRtUnlockTensorBuffer(LiteRtTensorBuffer);
}

namespace {

void Check(int status, const char* what) {
  if (status) throw std::runtime_error(std::string("LiteRT cannot ") + what);
}

LiteRtRankedTensorType TypeOf(LiteRtTensor tensor) {
  LiteRtRankedTensorType type;
  Check(LiteRtGetRankedTensorType(tensor, &type), "tell a tensor's shape");
  // The exported batch axis is free; one image is run.
  if (type.rank && type.dimensions[0] < 0) type.dimensions[0] = 1;
  return type;
}

size_t Elements(const LiteRtRankedTensorType& type) {
  size_t count = 1;
  for (uint32_t k = 0; k < type.rank; ++k) count *= type.dimensions[k];
  return count;
}

}  // namespace

// The process ends after one image: what LiteRT holds is released by the system.
std::vector<int32_t> RunHead(const char* model_path, const std::vector<char>& image,
                             size_t count) {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  LiteRtSignature signature;
  Check(LiteRtCreateEnvironment(0, nullptr, &environment), "start");
  Check(LiteRtCreateModelFromFile(environment, model_path, &model), "read the head");
  Check(LiteRtCreateOptions(&options), "make options");
  Check(LiteRtSetOptionsHardwareAccelerators(options, kCpu), "use the CPU");
  Check(LiteRtCreateCompiledModel(environment, model, options, &compiled), "compile");
  Check(LiteRtGetModelSignature(model, 0, &signature), "find the signature");

  size_t inputs, outputs;
  Check(LiteRtGetNumSignatureInputs(signature, &inputs), "count inputs");
  Check(LiteRtGetNumSignatureOutputs(signature, &outputs), "count outputs");
  if (inputs != 1) throw std::runtime_error("HEAD is no head of one segment");

  LiteRtTensor tensor;
  LiteRtTensorBufferRequirements needs;
  LiteRtTensorBuffer input;
  Check(LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor), "find the input");
  const LiteRtRankedTensorType type = TypeOf(tensor);
  if (type.element_type != kUInt8 || Elements(type) != image.size())
    throw std::runtime_error("IMAGE is not of the head's shape");
  Check(LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &needs), "ask");
  Check(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs,
                                                        &input), "allocate");
  void* memory;
  Check(LiteRtLockTensorBuffer(input, &memory, kWrite), "write the image");
  std::memcpy(memory, image.data(), image.size());
  Check(LiteRtUnlockTensorBuffer(input), "write the image");

  std::vector<LiteRtTensorBuffer> buffers(outputs);
  size_t symbols_at = outputs;
  for (size_t i = 0; i < outputs; ++i) {
    const char* name;
    Check(LiteRtGetSignatureOutputName(signature, i, &name), "name an output");
    Check(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor), "find outputs");
    const LiteRtRankedTensorType out = TypeOf(tensor);
    Check(LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, i, &needs), "ask");
    Check(LiteRtCreateManagedTensorBufferFromRequirements(environment, &out, needs,
                                                          &buffers[i]), "allocate");
    if (!std::strcmp(name, "symbols") && out.element_type == kInt32 &&
        Elements(out) == count)
      symbols_at = i;
  }
  if (symbols_at == outputs) throw std::runtime_error("HEAD gives no symbols of CODEC");
  Check(LiteRtRunCompiledModel(compiled, 0, 1, &input, outputs, buffers.data()), "run");
  Check(LiteRtLockTensorBuffer(buffers[symbols_at], &memory, kRead), "read symbols");
  std::vector<int32_t> symbols(count);
  std::memcpy(symbols.data(), memory, 4 * count);
  Check(LiteRtUnlockTensorBuffer(buffers[symbols_at]), "read symbols");
  return symbols;
}
