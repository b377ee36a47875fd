{{/* The configuration that the gateway reads: the values `config`, and what the chart alone can know. */}}

{{/* Its values with the models on the chart's own Tritons, or the two simulated models where there are none. */}}
{{- define "postern.givenConfig" -}}
{{- if .Values.config }}
{{- $config := deepCopy .Values.config }}
{{- with include "postern.tritonModels" . }}
{{- $_ := set $config "models" (mustMerge ($config.models | default dict) (fromYaml .)) }}
{{- end }}
{{- toYaml $config }}
{{- else }}
{{- .Files.Get "files/trial.yaml" }}
{{- end }}
{{- end }}

{{/* Helm reads the capability n as YAML 1.1 does: as false. */}}
{{- define "postern.config" -}}
{{- $config := include "postern.givenConfig" . | fromYaml }}
{{- $grace := include "postern.streamSeconds" . | int }}
{{- $own := dict "host" .Values.listenAddress "port" 8080 "admin_host" .Values.listenAddress "admin_port" 8081 }}
{{- $_ := set $config "server" (merge $own (dict "shutdown_grace_s" $grace) ($config.server | default dict)) }}
{{- with include "postern.redisUrl" . }}
{{- $_ := set $config "redis" (merge (dict "url" .) ($config.redis | default dict)) }}
{{- end }}
{{- range $model := $config.models }}
{{- if $model.capabilities }}
{{- $capabilities := list }}
{{- range $model.capabilities }}{{ $capabilities = append $capabilities (ternary "n" . (eq (toString .) "false")) }}{{ end }}
{{- $_ := set $model "capabilities" $capabilities }}
{{- end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "postern.configFile" -}}
/etc/postern/{{ if .Values.existingConfigMap }}{{ .Values.existingConfigMapKey }}{{ else }}postern.yaml{{ end }}
{{- end }}

{{/* Data of the ConfigMap that the chart makes; nothing where it makes none. */}}
{{- define "postern.configData" -}}
{{- $data := deepCopy .Values.configFiles }}
{{- if not .Values.existingConfigMap }}{{ $_ := set $data "postern.yaml" (include "postern.config" .) }}{{ end }}
{{- with $data }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* The volume `config`. Takes (dict "root" $ "name" NAME_OF_OWN_CONFIGMAP). No subPath: those are never renewed. */}}
{{- define "postern.configVolume" -}}
- name: config
  projected:
    defaultMode: 0444
    sources:
      {{- with .root.Values.existingConfigMap }}
      - configMap: {name: {{ . }}}
      {{- end }}
      {{- if include "postern.configData" .root }}
      - configMap: {name: {{ .name }}}
      {{- end }}
{{- end }}

{{/* Items of `volumes` and of `volumeMounts`: the value `secretFiles`. */}}
{{- define "postern.secretVolumes" -}}
{{- range $number, $name := .Values.secretFiles }}
- name: secret-{{ $number }}
  secret: {secretName: {{ $name }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "postern.secretMounts" -}}
{{- range $number, $name := .Values.secretFiles }}
- {name: secret-{{ $number }}, mountPath: /etc/postern-secrets/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Seconds that running streams get at shutdown. 600 is the gateway's own default of `timeouts.total_s`. */}}
{{- define "postern.streamSeconds" -}}
{{- if not (kindIs "invalid" .Values.drain.streamSeconds) }}
{{- .Values.drain.streamSeconds }}
{{- else }}
{{- $longest := 0 }}
{{- range $model := (include "postern.givenConfig" . | fromYaml).models }}
{{- $longest = get ($model.timeouts | default dict) "total_s" | default 600 | ceil | int | max $longest }}
{{- end }}
{{- $longest | default 600 }}
{{- end }}
{{- end }}

{{/* 15 seconds: the gateway writes what is left of its logs and accounts, and leaves its upstreams and Redis. */}}
{{- define "postern.gracePeriod" -}}
{{- add .Values.drain.preStopSeconds (include "postern.streamSeconds" . | int) 15 }}
{{- end }}

{{/* Names of the environment variables that the configuration asks for, as a list. `$$` is a dollar. */}}
{{- define "postern.askedVariables" -}}
{{- $names := list }}
{{- range regexFindAll "[$][{][A-Za-z_][A-Za-z0-9_]*[}]" (toYaml .Values.config | replace "$$" "") -1 }}
{{- $names = append $names (. | trimPrefix "${" | trimSuffix "}") }}
{{- end }}
{{- toYaml (dict "names" ($names | uniq | sortAlpha)) }}
{{- end }}

{{/* The gateway's `env`. Addresses are told here too: the image's own variables would win over the configuration. */}}
{{- define "postern.env" -}}
- {name: POSTERN_HOST, value: {{ .Values.listenAddress | quote }}}
- {name: POSTERN_ADMIN_HOST, value: {{ .Values.listenAddress | quote }}}
{{- with include "postern.redisEnv" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.extraEnv }}
{{ include "postern.templated" (dict "root" $ "list" .) }}
{{- end }}
{{- end }}

{{/* The container's `envFrom`. Takes (dict "root" $ "own" NAME_OF_OWN_SECRET). */}}
{{- define "postern.envFrom" -}}
{{- range .root.Values.existingSecrets }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- if .root.Values.secrets }}
- secretRef: {name: {{ .own }}}
{{- end }}
{{- with .root.Values.extraEnvFrom }}
{{ include "postern.templated" (dict "root" $.root "list" .) }}
{{- end }}
{{- end }}

{{/* Data of a Secret with the values `secrets`, which it takes. */}}
{{- define "postern.secretData" -}}
{{- range $name, $value := . }}
{{ $name | quote }}: {{ $value | b64enc | quote }}
{{- end }}
{{- end }}

{{/*
Ports of the upstreams, as far as the configuration tells: {ports: [...], isWhole: false} where a url can't be read,
as `${NAME}` may hold its port, and where the configuration is elsewhere.
*/}}
{{- define "postern.upstreamPorts" -}}
{{- $ports := list }}
{{- $isWhole := not .Values.existingConfigMap }}
{{- range $model := .Values.config.models | default dict }}
{{- $urls := concat ($model.urls | default list) (get ($model.watch | default dict) "metrics_urls" | default list) }}
{{- with $model.proxy }}{{ $urls = append $urls . }}{{ end }}
{{- if and (eq ($model.backend | default "") "triton") (not (hasKey ($model.watch | default dict) "metrics_urls")) }}
{{- $ports = append $ports 8002 }}
{{- end }}
{{- range $urls }}
{{- $port := include "postern.portOf" . }}
{{- if $port }}{{ $ports = append $ports (int $port) }}{{ else }}{{ $isWhole = false }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml (dict "ports" ($ports | uniq) "isWhole" $isWhole) }}
{{- end }}

{{/* The port of a url; nothing where only a `${NAME}` can tell. */}}
{{- define "postern.portOf" -}}
{{- $place := regexReplaceAll "^[a-z]+://([^/]*@)?([^/?]*).*$" . "${2}" }}
{{- $port := regexFind ":[0-9]+$" $place | trimPrefix ":" }}
{{- if $port }}
{{- $port }}
{{- else if not (contains "$" $place) }}
{{- if hasPrefix "grpc://" . }}8001{{ else if regexMatch "^(https|grpcs)://" . }}443{{ else }}80{{ end }}
{{- end }}
{{- end }}

{{/* Ports of collectors of traces, as a list: of the configuration, else of the environment. */}}
{{- define "postern.collectorPorts" -}}
{{- $urls := list }}
{{- range .Values.extraEnv }}
{{- if and (regexMatch "^OTEL_EXPORTER_OTLP_(TRACES_)?ENDPOINT$" .name) .value }}{{ $urls = append $urls .value }}{{ end }}
{{- end }}
{{- with get (.Values.config.tracing | default dict) "endpoint" }}{{ $urls = list . }}{{ end }}
{{- $ports := list }}
{{- range $urls }}{{ $ports = append $ports (include "postern.portOf" . | default "4318" | int) }}{{ end }}
{{- with $ports }}{{ toYaml (uniq .) }}{{ end }}
{{- end }}
