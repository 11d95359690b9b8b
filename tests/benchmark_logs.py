"""Logs of benchmark_model as its versions print them, written from its sources."""

NEW = """\
device: Example Phone 9, Android 16, board8
cores: f0
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Report the peak memory footprint: [1]
INFO: Graph: [/data/local/tmp/head.tflite]
INFO: Signature to run: []
INFO: Enable op profiling: [1]
INFO: #threads used for CPU inference: [4]
INFO: Use xnnpack: [1]
INFO: Loaded model /data/local/tmp/head.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially \
executed by the delegate w/ 3 delegate kernels.
INFO: The input model file size (MB): 0.142084
INFO: Initialized session in 6.395ms.
INFO: Running benchmark for at least 20 iterations and at least 0.5 seconds but \
terminate if exceeding 150 seconds.
INFO: count=153 first=2761 curr=2885 min=2605 max=18080 avg=3243.58 std=2165 \
p5=2630 median=2761 p95=5331

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but \
terminate if exceeding 150 seconds.
INFO: count=337 first=2881 curr=2703 min=2605 max=20356 avg=2942.27 std=1190 \
p5=2647 median=2781 p95=3169

INFO: Inference timings in us: Init: 6395, First inference: 2761, Warmup (avg): \
3243.58, Inference (avg): 2942.27
INFO: Note: as the benchmark tool itself affects memory footprint, the following is \
only APPROXIMATE to the actual memory footprint of the model at runtime.
INFO: Memory footprint delta from the start of the tool (MB): init=39.5 overall=40.75
INFO: Overall peak memory footprint (MB) via periodic monitoring: 45.25
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 45 MB
INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
   [node type]  [first]  [avg ms]      [%]   [cdf%]  [mem KB]  [times called]  [Name]
   AllocateTensors  5.061  5.061  100.000%  100.000%  10292.000  1  AllocateTensors/0

============================== Top by Computation Time ==============================
   [node type]  [first]  [avg ms]      [%]   [cdf%]  [mem KB]  [times called]  [Name]
   AllocateTensors  5.061  5.061  100.000%  100.000%  10292.000  1  AllocateTensors/0

Number of nodes executed: 1
Timings (microseconds): count=1 curr=5061
Memory (bytes): count=0
1 nodes observed


INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
   [node type]  [first]  [avg ms]      [%]   [cdf%]  [mem KB]  [times called]  [Name]
   QUANTIZE  0.199  0.200  6.757%  6.757%  0.000  1  [tfl.quantize]:0
   Convolution (NHWC, QC8) IGEMM  0.398  0.400  54.054%  60.811%  0.000  4  \
Delegate/Convolution (NHWC, QC8) IGEMM:0
   DIV  1.100  1.160  39.189%  100.000%  0.000  1  [div;add]:10

============================== Top by Computation Time ==============================
   [node type]  [first]  [avg ms]      [%]   [cdf%]  [mem KB]  [times called]  [Name]
   DIV  1.100  1.160  39.189%  39.189%  0.000  1  [div;add]:10

Number of nodes executed: 3
============================== Summary by node type ==============================
   [Node type]  [count]  [avg ms]  [avg %]  [cdf %]  [mem KB]  [times called]
   DIV  1  1.160  39.189%  39.189%  0.000  1

Timings (microseconds): count=337 first=2961 curr=2960 min=2950 max=2999 avg=2960 std=9
Memory (bytes): count=0
3 nodes observed
"""

# 2019: no INFO, no percentiles, another order of the summary, calls printed as 0
OLD = """\
STARTING!
Num threads: [2]
Graph: [/data/local/tmp/old.tflite]
Loaded model /data/local/tmp/old.tflite
Initialized session in 9.933ms
Running benchmark for at least 4 iterations and at least 0.5 seconds
count=7 first=127425 curr=66709 min=66709 max=127425 avg=76605.9 std=20944

Running benchmark for at least 10 iterations and at least 1 seconds
count=15 first=66753 curr=66800 min=66699 max=66838 avg=66767.6 std=39

============================== Run Order ==============================
\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  \
[mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t    0.000\t    4.269\t    4.500\t  0.107%\t  0.107%\t  \
   0.000\t        0\t[MobilenetV1/Conv2d_0/Relu6]
\t       DEPTHWISE_CONV_2D\t    4.270\t    2.150\t    1.500\t  0.054%\t  0.161%\t  \
   0.000\t        0\t[MobilenetV1/Conv2d_1_depthwise/Relu6]

============================== Top by Computation Time ==============================
\t                 CONV_2D\t    0.000\t    4.269\t    4.500\t  0.107%\t  0.107%\t  \
   0.000\t        0\t[MobilenetV1/Conv2d_0/Relu6]

Average inference timings in us: Warmup: 76605.9, Init: 9933, no stats: 66767.6
"""

# logcat of the benchmark app, a GPU, one run only
LOGCAT = """\
07-08 15:33:55.100 I/tflite  ( 5395): STARTING!
07-08 15:33:55.101 I/tflite  ( 5395): Graph: [/data/local/tmp/gpu.tflite]
07-08 15:33:55.102 I/tflite  ( 5395): Use gpu: [1]
07-08 15:33:55.300 I/tflite  ( 5395): Created TensorFlow Lite delegate for GPU.
07-08 15:33:55.301 I/tflite  ( 5395): Explicitly applied GPU delegate, and the model \
graph will be completely executed by the delegate.
07-08 15:33:58.992 I/tflite  ( 5395): count=1 curr=2732148 p5=2732148 median=2732148 \
p95=2732148
07-08 15:34:26.201 I/tflite  ( 5395): count=1 curr=2640862 p5=2640862 median=2640862 \
p95=2640862
07-08 15:34:26.202 I/tflite  ( 5395): Inference timings in us: Init: 458883, First \
inference: 2732148, Warmup (avg): 2.73215e+06, Inference (avg): 2.64086e+06
07-08 15:34:26.202 I/tflite  ( 5395): Peak memory footprint (MB): init=286.5 overall=337
"""

# LiteRT's CompiledModel tool: another summary, the profile of one inference
COMPILED = """\
INFO: [benchmark_litert_model.cc:95] Loading model from: /data/local/tmp/head.tflite
INFO: Num threads: [2]
INFO: Graph: [/data/local/tmp/head.tflite]
INFO: The input model file size (MB): 0.142084
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but \
terminate if exceeding 150 seconds.
INFO: count=40 first=900 curr=850 min=800 max=1000 avg=860 std=9 p5=810 median=850 \
p95=990

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but \
terminate if exceeding 150 seconds.
INFO: count=50 first=850 curr=840 min=810 max=990 avg=845 std=9 p5=812 median=842 \
p95=970

INFO: [benchmark_litert_model.h:88]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:89] Model initialization: 12.50 ms
INFO: [benchmark_litert_model.h:90] Warmup (first):       0.90 ms
INFO: [benchmark_litert_model.h:92] Warmup (avg):         0.86 ms (40 runs)
INFO: [benchmark_litert_model.h:94] Inference (avg):      0.84 ms (50 runs)
INFO: [benchmark_litert_model.h:98] Inference (min):      0.81 ms
INFO: [benchmark_litert_model.h:117]
Memory Usage:
INFO: [benchmark_litert_model.h:118] Init footprint:       8.00 MB
INFO: [benchmark_litert_model.h:120] Overall footprint:    8.50 MB
INFO: [benchmark_litert_model.h:125] Peak memory:          30.25 MB
INFO: [benchmark_litert_model.h:131] ======================================

=============================== Run Order ===============================
 [node type]  [start]  [first]  [avg ms]  [%]  [cdf%]  [mem KB]  [times called]  [Name]
 CAST  0.000  0.001  0.010  10.000%  10.000%  0.000  1  [Builtin]:0
 Delegate/Convolution (NHWC, F32) IGEMM  0.000  0.035  0.045  90.000%  100.000%  \
0.000  2  [Delegate]:6
"""

FAILED = """\
STARTING!
Duplicate flags: num_threads
Graph: [/data/local/tmp/none.tflite]
ERROR: Could not open '/data/local/tmp/none.tflite'.
ERROR: Benchmarking failed.
"""
