{{/* What the gateway needs to know of Redis. Each takes the root and returns nothing where there is no Redis. */}}

{{/* The url, with `${NAME}` for what is secret. */}}
{{- define "postern.redisUrl" -}}
{{- end }}

{{/* Items of a container's `env`. */}}
{{- define "postern.redisEnv" -}}
{{- end }}

{{/* Items of a pod's `volumes`: certificates. */}}
{{- define "postern.redisVolumes" -}}
{{- end }}

{{/* Items of a container's `volumeMounts`. */}}
{{- define "postern.redisVolumeMounts" -}}
{{- end }}

{{/* Items of a NetworkPolicy's `egress`. */}}
{{- define "postern.redisEgress" -}}
{{- end }}

{{/* Text that changes when the Redis secret that this chart renders changes: part of the pod's checksum. */}}
{{- define "postern.redisChecksum" -}}
{{- end }}

{{/* Values of `redis` that contradict one another: a line each, with what to do. */}}
{{- define "postern.redisFaults" -}}
{{- end }}
