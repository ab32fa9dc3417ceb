-- The script of wrk: sends the requests of a file in order, counts status classes and prints one
-- line of JSON. Each request of the file is followed by NUL.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } clock_value;
  int clock_gettime(int clock, clock_value *value);
]]

local CLOCK_MONOTONIC = 1
local clock = ffi.new("clock_value")

local function now_us()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, clock)
  return tonumber(clock.seconds) * 1e6 + tonumber(clock.nanoseconds) / 1e3
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  requests_text = file:read("*a")
  file:close()
  position, began_us, exhausted_us, last = 1, 0, 0, ""
  for status = 0, 5 do _G["status_" .. status] = 0 end
end

function request()
  if began_us == 0 then began_us = now_us() end
  local stop = string.find(requests_text, "\0", position, true)
  if not stop then
    if exhausted_us == 0 then exhausted_us = now_us() end
    wrk.thread:stop()
    return last
  end
  last = string.sub(requests_text, position, stop - 1)
  position = stop + 1
  return last
end

function response(status)
  local name = "status_" .. math.floor(status / 100)
  _G[name] = (_G[name] or 0) + 1
end

function done(summary, latency)
  local thread = threads[1]
  local used_us = summary.duration
  local ended_us = thread:get("exhausted_us")
  if ended_us > 0 then used_us = ended_us - thread:get("began_us") end
  local errors = summary.errors
  io.write(string.format(
    'LOAD {"requests":%d,"seconds":%.6f,"p50Us":%d,"p99Us":%d,"exhausted":%s,' ..
    '"answers2xx":%d,"answers4xx":%d,"answers5xx":%d,"socketErrors":%d}\n',
    summary.requests, used_us / 1e6, latency:percentile(50), latency:percentile(99),
    tostring(ended_us > 0), thread:get("status_2"), thread:get("status_4"),
    thread:get("status_5"),
    errors.connect + errors.read + errors.write + errors.timeout))
end
