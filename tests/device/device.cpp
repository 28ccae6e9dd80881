// An accelerator that is none: a device of torch's (PrivateUse1) whose memory is main memory. Its operations are the CPU's on the
// same bytes. What differs from the CPU is what goes wrong on a card: autograd runs it on a thread of its own, tensors of two
// devices in one operation are an error, fresh and freed memory holds garbage, memory can run out, and a copy to or from main
// memory is counted.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/accumulate.h>
#include <torch/extension.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

using at::Tensor;
constexpr auto KIND = c10::DeviceType::PrivateUse1;
constexpr int GARBAGE = 0x7f;  // as floating point: NaN or huge

struct Counters {
  std::atomic<long> used{0}, peak{0}, limit{0}, reads{0}, writes{0};
} counters;

// --- memory

struct Memory final : c10::Allocator {
  struct Block {
    void* bytes;
    long size;
  };
  c10::DataPtr allocate(size_t size) override {
    const long wanted = static_cast<long>(size);
    TORCH_CHECK_WITH(OutOfMemoryError, !counters.limit || counters.used + wanted <= counters.limit,
                     "device out of memory: tried to allocate ", wanted, " bytes of ", counters.limit.load(), ", ",
                     counters.used.load(), " in use");
    void* bytes = size ? std::malloc(size) : nullptr;
    if (bytes) std::memset(bytes, GARBAGE, size);
    const long now = counters.used += wanted;
    long before = counters.peak;
    while (now > before && !counters.peak.compare_exchange_weak(before, now)) {
    }
    return {bytes, new Block{bytes, wanted}, &release, c10::Device(KIND, 0)};
  }
  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    if (block->bytes) std::memset(block->bytes, GARBAGE, block->size);
    std::free(block->bytes);
    counters.used -= block->size;
    delete block;
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
};
Memory memory;
REGISTER_ALLOCATOR(KIND, &memory);

// --- one device with one stream, on which nothing is ever late

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::Device only() const { return {KIND, 0}; }
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device) const override { return only(); }
  c10::Device getDevice() const override { return only(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, only()); }
  c10::Stream getDefaultStream(c10::Device d) const override { return getStream(d); }
  c10::Stream getNewStream(c10::Device d, int) const override { return getStream(d); }
  c10::Stream getStreamFromGlobalPool(c10::Device d, bool) const override { return getStream(d); }
  c10::Stream exchangeStream(c10::Stream) const override { return getStream(only()); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isAvailable() const override { return true; }
  bool isBuilt() const override { return true; }
  void init() const override {}
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    auto fresh = memory.allocate(size);
    if (storage.data()) std::memcpy(fresh.get(), storage.data(), std::min(size, storage.nbytes()));
    storage.set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};
Hooks hooks;

// --- tensors

bool here(const Tensor& tensor) { return tensor.defined() && tensor.device().type() == KIND; }

Tensor on_cpu(const Tensor& tensor) {  // the same bytes as a tensor of the CPU
  if (!here(tensor)) return tensor;
  auto options = at::TensorOptions().dtype(tensor.scalar_type());
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);
  auto* bytes = static_cast<char*>(tensor.storage().mutable_data()) + tensor.storage_offset() * tensor.element_size();
  auto view = at::from_blob(bytes, tensor.sizes(), tensor.strides(), [](void*) {}, options);
  return tensor.is_conj() ? at::_conj(view) : view;
}

Tensor brought(const Tensor& tensor) {  // a result of the CPU's in the device's memory
  if (!tensor.defined() || here(tensor)) return tensor;
  Tensor fresh(at::detail::empty_strided_generic(tensor.sizes(), tensor.strides(), &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                                 tensor.scalar_type()));
  at::NoGradGuard no_grad;
  on_cpu(fresh).copy_(tensor.resolve_conj());
  return fresh;
}

Tensor empty(c10::IntArrayRef size, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>, std::optional<c10::Device>,
             std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
                     std::optional<c10::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

void transfer(const Tensor& from, const Tensor& to) {
  if (here(from) && !here(to)) counters.reads++;
  if (!here(from) && here(to)) counters.writes++;
  at::NoGradGuard no_grad;
  auto target = on_cpu(to);
  target.copy_(on_cpu(from));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  transfer(from, to);
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  transfer(from, to);
  return to;
}

at::Scalar scalar(const Tensor& tensor) {
  counters.reads++;
  return on_cpu(tensor).item();
}

const Tensor& resize(const Tensor& self, at::SymIntArrayRef size, std::optional<c10::MemoryFormat> format) {
  auto* tensor = self.unsafeGetTensorImpl();
  auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  const size_t needed = (c10::multiply_integers(sizes) + self.storage_offset()) * self.element_size();
  if (self.storage().nbytes() < needed) hooks.resizePrivateUse1Bytes(self.storage(), needed);
  tensor->set_sizes_contiguous(sizes);
  if (format) tensor->empty_tensor_restride(*format);
  return self;
}

Tensor& set_part(Tensor& self, at::Storage storage, int64_t offset, c10::IntArrayRef size, c10::IntArrayRef stride) {
  auto* tensor = self.unsafeGetTensorImpl();
  tensor->set_storage_keep_dtype(storage);
  tensor->set_storage_offset(offset);
  if (stride.empty() && !size.empty())
    tensor->set_sizes_contiguous(size);
  else
    tensor->set_sizes_and_strides(size, stride);
  return self;
}

Tensor& set_whole(Tensor& self, at::Storage storage) {
  const auto count = static_cast<int64_t>(storage.nbytes() / self.element_size());
  return set_part(self, storage, 0, {count}, {});
}

Tensor& set_as(Tensor& self, const Tensor& source) {
  return set_part(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

// --- everything else: the CPU's operation on the same bytes

template <class Change>
void each_tensor(c10::IValue& value, Change change) {
  if (value.isTensor()) {
    value = change(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const auto& tensor : value.toTensorVector()) list.push_back(change(tensor));
    value = list;
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector())
      list.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
    value = list;
  }
}

void by_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const size_t first = stack->size() - op.schema().arguments().size();
  bool on_device = false, in_main = false;
  std::vector<std::pair<Tensor, Tensor>> pairs;  // of the device, and the same for the CPU
  auto lend = [&](const Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    on_device |= here(tensor);
    in_main |= !here(tensor) && tensor.dim() > 0;
    if (!here(tensor)) return tensor;
    pairs.emplace_back(tensor, on_cpu(tensor));
    return pairs.back().second;
  };
  for (size_t place = first; place < stack->size(); ++place) {
    auto& value = (*stack)[place];
    each_tensor(value, lend);
    if (value.isDevice()) value = c10::Device(c10::kCPU);
  }
  TORCH_CHECK(!(on_device && in_main), "Expected all tensors to be on the same device, but found the device and the cpu (",
              op.schema().name(), ")");
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  auto take = [&](const Tensor& tensor) {
    for (auto& [ours, lent] : pairs) {
      if (!tensor.is_same(lent)) continue;
      if (ours.sizes() != lent.sizes()) {  // an out= that was too small
        ours.resize_(lent.sizes());
        on_cpu(ours).copy_(lent);
      }
      return ours;
    }
    return brought(tensor);
  };
  for (size_t place = stack->size() - op.schema().returns().size(); place < stack->size(); ++place) each_tensor((*stack)[place], take);
}

void together(const Tensor& one, const Tensor& other) {
  TORCH_CHECK(!one.defined() || !other.defined() || one.device() == other.device(),
              "Expected all tensors to be on the same device (convolution)");
}

Tensor convolution(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, c10::SymIntArrayRef stride,
                   c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
                   c10::SymInt groups) {
  together(x, weight);
  std::optional<Tensor> lent;
  if (bias && bias->defined()) {
    together(x, *bias);
    lent = on_cpu(*bias);
  }
  return brought(at::convolution_symint(on_cpu(x), on_cpu(weight), lent, stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> convolution_back(const Tensor& grad, const Tensor& x, const Tensor& weight, c10::SymIntArrayRef stride,
                                                    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed,
                                                    c10::SymIntArrayRef output_padding, c10::SymInt groups, std::array<bool, 3> wanted) {
  together(grad, x);
  together(x, weight);
  std::vector<c10::SymInt> bias{transposed ? weight.sym_size(1) * groups : weight.sym_size(0)};
  auto [to_x, to_weight, to_bias] =
      at::convolution_backward_symint(on_cpu(grad), on_cpu(x), on_cpu(weight), c10::OptionalArrayRef<c10::SymInt>(bias), stride, padding,
                                      dilation, transposed, output_padding, groups, wanted);
  return {brought(to_x), brought(to_weight), brought(to_bias)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", scalar);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_whole);
  m.impl("set_.source_Storage_storage_offset", set_part);
  m.impl("set_.source_Tensor", set_as);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_back);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_cpu>()); }
TORCH_LIBRARY_IMPL(_, AutogradPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.def("used", [] { return counters.used.load(); });
  m.def("peak", [] { return counters.peak.load(); });
  m.def("forget_peak", [] { counters.peak = counters.used.load(); });
  m.def("set_limit", [](long bytes) { counters.limit = bytes; });
  m.def("reads", [] { return counters.reads.load(); });
  m.def("writes", [] { return counters.writes.load(); });
}
