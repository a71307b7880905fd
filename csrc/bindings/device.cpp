// Devices as Python sees them: what is there, its memory, streams, events and graphs.
#include <optional>

#include "bindings/transfer.h"
#include "core/allocator.h"
#include "core/fault.h"

namespace pymodel {
namespace {

DeviceType type_of(const std::string& name) {
  if (name == "cuda") return DeviceType::cuda;
  if (name == "simt") return DeviceType::simt;
  throw DeviceError("device type '" + name + "' is unknown; expected 'cuda' or 'simt'");
}

// A device that has streams; throws DeviceError for the CPU.
Device accelerator(const char* what, const std::string& name) {
  const Device device = parse_device(name);
  if (!device.is_cpu()) return device;
  throw DeviceError(std::string(what) + ": expected a device of type cuda, got 'cpu'");
}

// ---------------------------------------------------------------------------------------------
// Memory

py::dict memory_stats(const std::string& name) {
  const Device device = parse_device(name);
  py::dict result;
  if (device.is_cpu()) {
    const AllocatorStats stats = allocator_stats();
    result["in_use"] = stats.in_use;
    result["peak_in_use"] = stats.peak_in_use;
    result["cached"] = stats.cached;
    result["system_allocations"] = stats.system_allocations;
    return result;
  }
  const DeviceMemoryStats stats = backend_for(device).memory_stats(device.index);
  result["in_use"] = stats.in_use;
  result["peak_in_use"] = stats.peak_in_use;
  result["reserved"] = stats.reserved;
  result["free"] = stats.free;
  result["total"] = stats.total;
  return result;
}

void reset_peak(const std::string& name) {
  const Device device = parse_device(name);
  if (device.is_cpu()) {
    reset_peak_memory();
  } else {
    backend_for(device).reset_peak_memory(device.index);
  }
}

void drop_cache(const std::string& name) {
  const Device device = parse_device(name);
  if (device.is_cpu()) {
    empty_cache();
  } else {
    py::gil_scoped_release released;
    backend_for(device).empty_cache(device.index);
  }
}

void synchronize(const std::string& name) {
  const Device device = parse_device(name);
  if (device.is_cpu()) return;
  {
    py::gil_scoped_release released;
    backend_for(device).synchronize_device(device.index);
  }
  raise_faults(device);
}

// ---------------------------------------------------------------------------------------------
// Streams and events

class Stream {
 public:
  // A new stream, or the one that another library made: its handle, 0 being the default stream.
  Stream(const std::string& device, std::optional<uintptr_t> handle)
      : owned_(!handle), on_{accelerator("Stream", device), nullptr} {
    on_.stream = owned_ ? backend_for(on_.device).take_stream(on_.device.index)
                        : reinterpret_cast<void*>(*handle);
  }
  ~Stream() {
    if (owned_) backend_or_null(on_.device.type)->give_stream(on_.stream, on_.device.index);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  const Execution& on() const { return on_; }
  uintptr_t handle() const { return reinterpret_cast<uintptr_t>(on_.stream); }
  void wait_for(const Stream& other) const { order(other.on_, on_); }
  void synchronize() const {
    {
      py::gil_scoped_release released;
      backend_for(on_.device).synchronize(on_);
    }
    raise_faults(on_.device);
  }

 private:
  bool owned_;
  Execution on_;
};

class Event {
 public:
  explicit Event(const std::string& device)
      : device_(accelerator("Event", device)),
        event_(backend_for(device_).create_event(device_.index)) {}
  ~Event() { backend_or_null(device_.type)->destroy_event(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() const { backend_for(device_).record(event_, current_execution(device_)); }
  void wait() const { backend_for(device_).wait(current_execution(device_), event_); }
  void synchronize() const {
    {
      py::gil_scoped_release released;
      backend_for(device_).synchronize_event(event_);
    }
    raise_faults(device_);
  }
  double elapsed_ms(const Event& end) const {
    return backend_for(device_).elapsed_ms(event_, end.event_);
  }

 private:
  Device device_;
  void* event_;
};

// ---------------------------------------------------------------------------------------------
// Graphs

class Graph {
 public:
  explicit Graph(const std::string& device) : device_(accelerator("Graph", device)) {}
  ~Graph() { reset(); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Between these two, work put into the current stream is noted.
  void begin() {
    reset();
    backend_for(device_).begin_capture(current_execution(device_));
  }
  void end() { graph_ = backend_for(device_).end_capture(current_execution(device_)); }

  void replay() const {
    if (graph_ == nullptr) throw DeviceError("replay: the graph is empty; capture it first");
    backend_for(device_).launch_graph(graph_, current_execution(device_));
  }

  void reset() {
    if (graph_ != nullptr) backend_or_null(device_.type)->destroy_graph(graph_);
    graph_ = nullptr;
  }

 private:
  Device device_;
  void* graph_ = nullptr;
};

}  // namespace

PYMODEL_BINDINGS(m) {
  m.def("check_device", [](const std::string& name) { return device_name(parse_device(name)); });
  m.def("why_unavailable", [](const std::string& type) { return why_unavailable(type_of(type)); });
  m.def("device_count", [](const std::string& type) {
    Backend* const backend = backend_or_null(type_of(type));
    return backend == nullptr ? 0 : backend->device_count();
  });
  m.def("device_title", [](const std::string& name) {
    const Device device = accelerator("get_device_name", name);
    return backend_for(device).title(device.index);
  });
  m.def("device_capability", [](const std::string& name) {
    const Device device = accelerator("get_device_capability", name);
    const int capability = backend_for(device).capability(device.index);
    return py::make_tuple(capability / 10, capability % 10);
  });
  m.def("memory_stats", &memory_stats);
  m.def("reset_peak_memory", &reset_peak);
  m.def("empty_cache", &drop_cache);
  m.def("synchronize", &synchronize);

  // Makes work of this thread go into another stream; returns the handle of the one before.
  m.def("exchange_stream", [](const std::string& name, uintptr_t handle) {
    const Device device = accelerator("stream", name);
    return reinterpret_cast<uintptr_t>(exchange_stream(device, reinterpret_cast<void*>(handle)));
  });
  m.def("current_stream", [](const std::string& name) {
    return reinterpret_cast<uintptr_t>(
        current_execution(accelerator("current_stream", name)).stream);
  });

  py::class_<Stream>(m, "Stream")
      .def(py::init<const std::string&, std::optional<uintptr_t>>(), py::arg("device"),
           py::arg("handle") = py::none())
      .def_property_readonly("device", [](const Stream& s) { return device_name(s.on().device); })
      .def_property_readonly("handle", &Stream::handle)
      .def("wait_for", &Stream::wait_for)
      .def("synchronize", &Stream::synchronize);
  py::class_<Event>(m, "Event")
      .def(py::init<const std::string&>())
      .def("record", &Event::record)
      .def("wait", &Event::wait)
      .def("synchronize", &Event::synchronize)
      .def("elapsed_ms", &Event::elapsed_ms);
  py::class_<Graph>(m, "Graph")
      .def(py::init<const std::string&>())
      .def("begin", &Graph::begin)
      .def("end", &Graph::end)
      .def("replay", &Graph::replay)
      .def("reset", &Graph::reset);
}

}  // namespace pymodel
