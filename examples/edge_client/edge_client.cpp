// A device in C++: symbols of a head -> payload -> frame -> ModelInfer -> the outputs.
//
//   edge_client SERVER MODEL CODEC SPLIT SYMBOLS
//   edge_client SERVER MODEL CODEC SPLIT HEAD.tflite IMAGE     (where LiteRT was found)
//
// MODEL and SPLIT stand in the bundle's manifest.json, CODEC is its codec.npz. SYMBOLS:
// int32 [h, w, channels], what the head gives as `symbols`. IMAGE: uint8 [H, W, C].
// Prints a line an output, as "prediction INT64 [1]: 7". Exit codes: 0 answered, 1 the
// server refused or is not there, 2 a mistake of the caller; one line on stderr.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "coder.h"
#include "edge.grpc.pb.h"
#include "head.h"

namespace {

constexpr double kBudgetSeconds = 5;

struct Codec : sc_codec {
  explicit Codec(const char* path) {
    if (const char* error = sc_codec_load(path, this)) throw std::runtime_error(error);
  }
  ~Codec() { sc_codec_free(this); }
  Codec(const Codec&) = delete;
};

std::vector<char> ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(std::string("cannot read ") + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<int32_t> ReadSymbols(const char* path, size_t count) {
  const std::vector<char> bytes = ReadFile(path);
  if (bytes.size() != 4 * count)
    throw std::runtime_error("SYMBOLS are not those of one latent of this codec");
  std::vector<int32_t> symbols(count);
  std::memcpy(symbols.data(), bytes.data(), bytes.size());
  return symbols;
}

std::string Frame(const Codec& codec, uint16_t split, const std::vector<int32_t>& head) {
  std::vector<int32_t> symbols(codec.count);
  sc_channels_first(&codec, head.data(), symbols.data());
  std::vector<uint8_t> payload(sc_payload_room(&codec)), frame(sc_frame_room(&codec));
  int64_t size = sc_encode(&codec, symbols.data(), payload.data(), payload.size());
  if (size >= 0)
    size = sc_frame_pack(&codec, split, payload.data(), static_cast<size_t>(size),
                         frame.data(), frame.size());
  if (size < 0) throw std::runtime_error("the symbols do not fit the codec");
  return {frame.begin(), frame.begin() + size};
}

template <typename T>
void PrintAs(const std::string& raw) {
  for (size_t at = 0; at + sizeof(T) <= raw.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, raw.data() + at, sizeof(T));
    std::cout << ' ' << +value;
  }
}

void Print(const inference::ModelInferResponse& response) {
  std::cout.precision(9);  // float32 survives it
  for (int i = 0; i < response.outputs_size(); ++i) {
    const auto& tensor = response.outputs(i);
    const std::string& raw = response.raw_output_contents(i);
    std::cout << tensor.name() << ' ' << tensor.datatype() << " [";
    for (int k = 0; k < tensor.shape_size(); ++k)
      std::cout << (k ? ", " : "") << tensor.shape(k);
    std::cout << "]:";
    if (tensor.datatype() == "FP32") PrintAs<float>(raw);
    else if (tensor.datatype() == "INT64") PrintAs<int64_t>(raw);
    else if (tensor.datatype() == "UINT8") PrintAs<uint8_t>(raw);
    else std::cout << ' ' << raw.size() << " bytes";
    std::cout << '\n';
  }
}

int Infer(const std::string& server, const std::string& model, std::string frame) {
  auto channel = grpc::CreateChannel(server, grpc::InsecureChannelCredentials());
  auto stub = inference::GRPCInferenceService::NewStub(channel);
  inference::ModelInferRequest request;
  request.set_model_name(model);
  auto* tensor = request.add_inputs();
  tensor->set_name("frame");
  tensor->set_datatype("BYTES");
  tensor->add_shape(1);
  tensor->mutable_contents()->add_bytes_contents(std::move(frame));
  (*request.mutable_parameters())["budget_s"].set_double_param(kBudgetSeconds);

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::system_clock::duration>(
                           std::chrono::duration<double>(kBudgetSeconds)));
  inference::ModelInferResponse response;
  const grpc::Status status = stub->ModelInfer(&context, request, &response);
  if (!status.ok()) {
    std::cerr << "error: " << status.error_code() << ": " << status.error_message()
              << '\n';
    return 1;
  }
  if (response.raw_output_contents_size() != response.outputs_size()) {
    std::cerr << "error: outputs without raw contents\n";
    return 1;
  }
  Print(response);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6 && argc != 7)
    throw std::runtime_error("SERVER MODEL CODEC SPLIT (SYMBOLS | HEAD IMAGE)");
  const Codec codec(argv[3]);
  const unsigned long split = std::stoul(argv[4]);
  if (split > 65535) throw std::runtime_error("SPLIT is above 65535");
  const std::vector<int32_t> symbols =
      argc == 6 ? ReadSymbols(argv[5], codec.count)
                : RunHead(argv[5], ReadFile(argv[6]), codec.count);
  return Infer(argv[1], argv[2],
               Frame(codec, static_cast<uint16_t>(split), symbols));
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 2;
}
