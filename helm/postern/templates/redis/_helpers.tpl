{{/* What the gateway needs to know of Redis. Each takes the root and returns nothing where there is no Redis. */}}

{{- define "postern.redisName" -}}
{{- include "postern.fullname" . }}-redis
{{- end }}

{{- define "postern.redisSecret" -}}
{{- .Values.redis.internal.auth.existingSecret | default (include "postern.redisName" .) }}
{{- end }}

{{- define "postern.redisSecretKey" -}}
{{- $auth := .Values.redis.internal.auth }}
{{- if $auth.existingSecret }}{{ $auth.existingSecretKey }}{{ else }}password{{ end }}
{{- end }}

{{/* The url, with `${NAME}` for what is secret. */}}
{{- define "postern.redisUrl" -}}
{{- if eq .Values.redis.mode "internal" -}}
redis://:${POSTERN_REDIS_PASSWORD}@{{ include "postern.redisName" . }}:6379/0
{{- else if eq .Values.redis.mode "external" -}}
{{- with .Values.redis.external -}}
{{- $options := list }}
{{- if or .ca.existingSecret .ca.existingConfigMap }}
{{- $options = append $options "ssl_ca_certs=/etc/postern-redis/ca.crt" }}
{{- end }}
{{- if .clientCertificate.existingSecret }}
{{- $options = concat $options (list "ssl_certfile=/etc/postern-redis/tls.crt" "ssl_keyfile=/etc/postern-redis/tls.key") }}
{{- end }}
{{- range $name, $value := .options }}
{{- $options = append $options (printf "%s=%s" $name (toString $value | urlquery)) }}
{{- end }}
{{- if .existingSecret }}${POSTERN_REDIS_URL}{{ else }}{{ .url }}{{ end }}
{{- with $options }}{{ ternary "&" "?" (contains "?" $.Values.redis.external.url) }}{{ join "&" . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Items of a container's `env`. */}}
{{- define "postern.redisEnv" -}}
{{- if eq .Values.redis.mode "internal" }}
- name: POSTERN_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "postern.redisSecret" . }}
      key: {{ include "postern.redisSecretKey" . }}
{{- else if and (eq .Values.redis.mode "external") .Values.redis.external.existingSecret }}
- name: POSTERN_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.external.existingSecret }}
      key: {{ .Values.redis.external.existingSecretKey }}
{{- end }}
{{- end }}

{{- define "postern.redisCertificates" -}}
{{- if eq .Values.redis.mode "external" }}
{{- with .Values.redis.external.ca }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- else if .existingConfigMap }}
- configMap:
    name: {{ .existingConfigMap }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- with .Values.redis.external.clientCertificate.existingSecret }}
- secret:
    name: {{ . }}
    items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}
{{- end }}
{{- end }}

{{/* Items of a pod's `volumes`: certificates. */}}
{{- define "postern.redisVolumes" -}}
{{- with include "postern.redisCertificates" . | trim }}
- name: redis-certificates
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Items of a container's `volumeMounts`. */}}
{{- define "postern.redisVolumeMounts" -}}
{{- if include "postern.redisCertificates" . | trim }}
- name: redis-certificates
  mountPath: /etc/postern-redis
  readOnly: true
{{- end }}
{{- end }}

{{/* Items of a NetworkPolicy's `egress`. */}}
{{- define "postern.redisEgress" -}}
{{- if eq .Values.redis.mode "internal" }}
- to:
    - podSelector:
        matchLabels:
          {{- include "postern.selectorLabels" (dict "root" . "component" "redis") | nindent 10 }}
  ports:
    - {port: 6379, protocol: TCP}
{{- else if eq .Values.redis.mode "external" }}
- ports:
    {{- range .Values.redis.external.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.redis.external.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
Text that changes when the Redis secret that this chart renders changes: part of the pod's checksum. A password that is
made up is left out: it never changes, and a renderer that can't look it up would make up another each time.
*/}}
{{- define "postern.redisChecksum" -}}
{{- if eq .Values.redis.mode "internal" }}{{ toJson .Values.redis.internal.auth }}{{ end }}
{{- end }}

{{/* Values of `redis` that contradict one another: a line each, with what to do. */}}
{{- define "postern.redisFaults" -}}
{{- with .Values.redis }}
{{- if eq .mode "external" }}
{{- if not (or .external.url .external.existingSecret) }}
redis.external: where is it? Name a Secret that holds the url in existingSecret, or set url where there is no password
{{- end }}
{{- if and .external.url .external.existingSecret }}
redis.external: url and existingSecret name two servers; leave one of them empty
{{- end }}
{{- if regexMatch "^[a-z+]+://[^/]*:[^/]*@" .external.url }}
redis.external.url: holds a password, which a ConfigMap would show; put the url into a Secret and name it in existingSecret
{{- end }}
{{- $hasOptions := or .external.options .external.ca.existingSecret .external.ca.existingConfigMap .external.clientCertificate.existingSecret }}
{{- if and $hasOptions .external.url (not (hasPrefix "rediss://" .external.url)) }}
redis.external: ca, clientCertificate and options are for rediss:// only; the gateway speaks no TLS to sentinels and clusters yet
{{- end }}
{{- if and .external.ca.existingSecret .external.ca.existingConfigMap }}
redis.external.ca: existingSecret and existingConfigMap; leave one of them empty
{{- end }}
{{- end }}
{{- if eq .mode "internal" }}
{{- if and .internal.auth.password .internal.auth.existingSecret }}
redis.internal.auth: password and existingSecret; leave one of them empty
{{- end }}
{{- if not (dig "limits" "memory" "" .internal.resources) }}
redis.internal.resources.limits.memory: is missing; maxmemory is reckoned from it
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What one may want to know of it: a line each. */}}
{{- define "postern.redisNotes" -}}
{{- with .Values.redis }}
{{- if and (eq .mode "internal") (not (or .internal.auth.password .internal.auth.existingSecret)) }}
Redis' password is made up and kept in the Secret {{ include "postern.redisName" $ }}. Where manifests are rendered without a cluster (Argo CD, `helm template`) each rendering makes up another: set redis.internal.auth.existingSecret there.
{{- end }}
{{- if and (eq .mode "internal") (not .internal.persistence.enabled) }}
Redis forgets all when its pod goes: the cache is cold then, and answers before it can't be marked. redis.internal.persistence.enabled keeps it.
{{- end }}
{{- if and (ne .mode "none") $.Values.existingConfigMap }}
The configuration is your own ConfigMap's: write {{ include "postern.redisUrl" $ }} as redis.url there.
{{- end }}
{{- end }}
{{- end }}

{{/* A quantity such as 1.5Gi in bytes. Takes the quantity. */}}
{{- define "postern.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $text := toString . }}
{{- if kindIs "float64" . }}{{ $text = printf "%.0f" . }}{{ end }}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text }}
{{- $unit := trimPrefix $number $text }}
{{- if not (and $number (hasKey $units $unit)) }}
{{- fail (printf "%q is no quantity of memory; write it as 512Mi or 2Gi" $text) }}
{{- end }}
{{- mulf (float64 $number) (get $units $unit | float64) | floor | int64 }}
{{- end }}

{{/* 75 % of the limit; with files 50 %, as writing them copies what changes meanwhile. The rest is clients' and Redis' own. */}}
{{- define "postern.redisMaxmemory" -}}
{{- with .Values.redis.internal }}
{{- $percent := .maxmemoryPercent | default (ternary 50 75 .persistence.enabled) | int64 }}
{{- div (mul (include "postern.bytes" (dig "limits" "memory" "0" .resources) | int64) $percent) 100 }}
{{- end }}
{{- end }}

{{/* Values of `redis` that contradict one another: a line each, with what to do. */}}
{{- define "postern.redisFaults" -}}
{{- end }}
