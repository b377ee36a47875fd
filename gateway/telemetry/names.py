"""Metric names and buckets, as the contract promises them.

GenAI names: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/, dots turned to underscores. Deviation:
the attribute `gen_ai.provider.name` is left out, as the gateway knows a backend, not a provider.
"""

TOKEN_USAGE = "gen_ai_client_token_usage"  # noqa: S105 - a metric's name
OPERATION_DURATION = "gen_ai_client_operation_duration_seconds"
TIME_TO_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"  # noqa: S105 - a metric's name
TIME_PER_OUTPUT_TOKEN = "gen_ai_server_time_per_output_token_seconds"  # noqa: S105 - a metric's name

REQUESTS = "postern_requests"
COST = "postern_request_cost_usd"
BASELINE = "postern_baseline_cost_usd"
SAVED = "postern_saved_usd"
TEAM_COST = "postern_team_cost_usd"
TEAM_BASELINE = "postern_team_baseline_cost_usd"
ENERGY = "postern_energy_wh"
OVERHEAD = "postern_overhead_seconds"
CLASSIFY = "postern_classify_seconds"
SCORE = "postern_score"
CONFIDENCE = "postern_cascade_confidence"
CACHE_REQUESTS = "postern_cache_requests"
UPSTREAM_ATTEMPTS = "postern_upstream_attempts"
UPSTREAM_READY = "postern_upstream_ready"
UPSTREAM_WAITING = "postern_upstream_waiting_requests"
UPSTREAM_RUNNING = "postern_upstream_running_requests"
UPSTREAM_KV_CACHE = "postern_upstream_kv_cache_usage_ratio"
IN_FLIGHT = "postern_in_flight"
SHED = "postern_shed"
FAIL_OPEN = "postern_fail_open"
CANCELLED = "postern_cancelled"
REDIS = "postern_redis_seconds"
REDIS_UP = "postern_redis_up"
THRESHOLD = "postern_threshold"
STRONG_SHARE_WANTED = "postern_strong_share_wanted"
FEEDBACK = "postern_feedback"
DRIFT = "postern_drift_psi"
CALIBRATION_ERROR = "postern_calibration_error"
ROUTER_REQUESTS = "postern_router_requests"
ROUTER_AGREEMENT = "postern_router_agreement"
LEARNING_LOG_ROWS = "postern_learning_log_rows"
SHADOW_DROPPED = "postern_shadow_dropped"
SPANS = "postern_spans"
CALIBRATION_BIAS = "postern_calibration_bias"
BUILD_INFO = "postern_build_info"
RELOAD_SUCCESSFUL = "postern_config_last_reload_successful"
RELOADED_AT = "postern_config_last_reload_success_timestamp_seconds"
LOOP_LAG = "postern_event_loop_lag_seconds"

FAIL_OPEN_STAGES = (
    *("cache", "cascade", "classify", "feedback", "learning_log", "log", "metrics", "routers", "session"),
    *("strong_share", "traces"),
)

TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
DURATION_BUCKETS = tuple(0.01 * 2**power for power in range(14))
TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
TPOT_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OVERHEAD_BUCKETS = (5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 7.5e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5)
CLASSIFY_BUCKETS = (2e-5, 4e-5, 6e-5, 8e-5, 1e-4, 1.5e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)
LOOP_LAG_BUCKETS = (1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REDIS_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.2, 0.5)
SCORE_BUCKETS = tuple(round(0.05 * step, 2) for step in range(1, 21))
