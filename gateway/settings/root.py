"""The whole configuration, as one frozen value."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.settings.feedback import FeedbackSettings, LearningLogSettings
from gateway.settings.logs import LogsSettings
from gateway.settings.models import ModelSettings
from gateway.settings.routes import RouteSettings
from gateway.settings.service import (
    CacheSettings,
    KeysSettings,
    LimitsSettings,
    RedisSettings,
    ServerSettings,
)
from gateway.settings.tracing import TracingSettings


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything an operator can set. One section a field."""

    models: Annotated[
        dict[str, ModelSettings],
        Meta(description='Models by name, such as `phi: {backend: openai, urls: ["http://127.0.0.1:9001/v1"]}`.'),
    ]
    routes: Annotated[
        dict[str, RouteSettings],
        Meta(description="The model names clients ask for, such as `auto: {models: [phi, llama]}`, weakest first."),
    ]
    server: Annotated[
        ServerSettings, Meta(description="Where the gateway listens. Default: loopback, one process.")
    ] = ServerSettings()
    redis: Annotated[
        RedisSettings | None,
        Meta(description="The store shared by all processes. null: in-process stores, one process."),
    ] = None
    cache: Annotated[CacheSettings, Meta(description="What is remembered. Default: nothing.")] = CacheSettings()
    feedback: Annotated[
        FeedbackSettings | None,
        Meta(description="Marks of answers. Default: on. null: off, `POST /v1/feedback` is not there."),
    ] = FeedbackSettings()
    learning_log: Annotated[
        LearningLogSettings | None,
        Meta(description="A file of prompts and marks, to train on. Default null: prompts are written nowhere."),
    ] = None
    tracing: Annotated[
        TracingSettings,
        Meta(description="Traces for OpenTelemetry. Default: off, unless the environment has a collector."),
    ] = TracingSettings()
    keys: Annotated[KeysSettings, Meta(description="Who may call. Default: anyone who reaches the data port.")] = (
        KeysSettings()
    )
    limits: Annotated[LimitsSettings, Meta(description="Bounds on what one process takes in.")] = LimitsSettings()
    logs: Annotated[LogsSettings, Meta(description="What is told on standard error. Default: a line a request.")] = (
        LogsSettings()
    )
