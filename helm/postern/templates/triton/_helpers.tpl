{{/*
What others need to know of Triton, and what its templates share. Those that take a server take (dict "root" $ "name"
NAME "server" VALUES): its values over `triton.defaults`.
*/}}

{{/* All servers: {NAME: values}, each over the defaults. A map that is given wins key by key, a list whole. */}}
{{- define "postern.tritonServers" -}}
{{- $servers := dict }}
{{- range $name, $given := .Values.triton.servers }}
{{- $_ := set $servers $name (mustMergeOverwrite (deepCopy $.Values.triton.defaults) (deepCopy ($given | default dict))) }}
{{- end }}
{{- toYaml $servers }}
{{- end }}

{{/*
A server's name: 52 characters at most, as a StatefulSet's pods carry it in a label with 11 more. What is cut is told
apart by a hash.
*/}}
{{- define "postern.tritonName" -}}
{{- $own := printf "triton-%s" .name }}
{{- $whole := printf "%s-%s" (include "postern.fullname" .root) $own }}
{{- if le (len $whole) 52 }}
{{- $whole }}
{{- else }}
{{- printf "%s-%s-%s" (include "postern.fullname" .root | trunc (sub 46 (len $own) | int) | trimSuffix "-") (include "postern.fullname" .root | sha256sum | trunc 4) $own }}
{{- end }}
{{- end }}

{{- define "postern.tritonIds" -}}
{{- toYaml (dict "component" (printf "triton-%s" .name)) }}
{{- end }}

{{/* As postern.metadata, for a server, with "suffix" for what is more than one. */}}
{{- define "postern.tritonMetadata" -}}
name: {{ include "postern.tritonName" . }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "postern.labels" (dict "root" .root "component" (printf "triton-%s" .name) "labels" .labels) | nindent 2 }}
{{- with .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "postern.tritonSelector" -}}
{{- include "postern.selectorLabels" (dict "root" .root "component" (printf "triton-%s" .name)) }}
{{- end }}

{{/* Pods that there may be. */}}
{{- define "postern.tritonMostPods" -}}
{{- with .server }}{{ ternary .replicas .autoscaling.maxReplicas (eq .autoscaling.kind "none") }}{{ end }}
{{- end }}

{{/*
The gateway's models on Triton: {NAME: {backend, urls, triton}}. Every pod by its own name, those too that autoscaling
may bring: the gateway looks at each every few seconds and weighs them by their queues, which one address for all hides.
*/}}
{{- define "postern.tritonModels" -}}
{{- $models := dict }}
{{- range $name, $server := include "postern.tritonServers" . | fromYaml }}
{{- $ids := dict "root" $ "name" $name "server" $server }}
{{- $service := include "postern.tritonName" $ids }}
{{- $urls := list }}
{{- range $pod := include "postern.tritonMostPods" $ids | int | until }}
{{- $urls = append $urls (printf "grpc://%s-%d.%s.%s.svc.%s:8001" $service $pod $service $.Release.Namespace $.Values.triton.clusterDomain) }}
{{- end }}
{{- range $model, $told := $server.models }}
{{- with $told }}
{{- if .dialect }}
{{- $entry := dict "backend" "triton" "urls" $urls "triton" (dict "dialect" .dialect "model" $model) }}
{{- $_ := set $models (.as | default $model) $entry }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $models }}{{ toYaml $models }}{{ end }}
{{- end }}

{{/* Items of a NetworkPolicy's `egress`, from the gateway to Triton. Takes the root; nothing where there is none. */}}
{{- define "postern.tritonEgress" -}}
{{- range $name, $server := include "postern.tritonServers" . | fromYaml }}
- to:
    - podSelector:
        matchLabels:
          {{- include "postern.tritonSelector" (dict "root" $ "name" $name) | nindent 10 }}
  ports:
    {{- range list 8000 8001 8002 }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}

{{/* Values of `triton` that contradict one another: a line each, with what to do. */}}
{{- define "postern.tritonFaults" -}}
{{- $seen := dict }}
{{- $models := include "postern.tritonModels" . | fromYaml }}
{{- if and $models (not (or .Values.config .Values.existingConfigMap)) }}
config.routes: the gateway has models on triton.servers ({{ keys $models | sortAlpha | join ", " }}), but no route to them; set config.routes, such as {auto: {models: [WEAKEST, ..., STRONGEST]}}
{{- end }}
{{- range $name, $model := .Values.config.models }}
{{- if not (or ($model | default dict).backend (hasKey $models $name)) }}
config.models.{{ $name }}.backend: is missing; write openai, triton, onnx or simulated, or give triton.servers a model of that name with a dialect
{{- end }}
{{- end }}
{{- range $name, $server := include "postern.tritonServers" . | fromYaml }}
{{- $here := printf "triton.servers.%s" $name }}
{{- with $server }}
{{- if not .models }}
{{ $here }}.models: is empty; name what it is to load, such as {llama: {dialect: vllm}}
{{- end }}
{{- $sources := list }}
{{- range $key, $is := dict "persistentVolumeClaim.existingClaim" .repository.persistentVolumeClaim.existingClaim "image.reference" .repository.image.reference "files" .repository.files "url" .repository.url }}
{{- if $is }}{{ $sources = append $sources $key }}{{ end }}
{{- end }}
{{- if and (not $sources) (not .initContainers) }}
{{ $here }}.repository: where is it? Set one of persistentVolumeClaim.existingClaim, image.reference, files and url, or fill /repository by initContainers
{{- else if gt (len $sources) 1 }}
{{ $here }}.repository: {{ join " and " ($sources | sortAlpha) }} name two repositories; leave one of them empty
{{- end }}
{{- range $path, $_ := .repository.files }}
{{- if not (regexMatch "^[A-Za-z0-9._-]+/[A-Za-z0-9._/-]+$" $path) }}
{{ $here }}.repository.files: {{ $path }} is no path in a repository; write it as MODEL/config.pbtxt or MODEL/1/model.json
{{- end }}
{{- end }}
{{- if and .repository.image.reference (eq .repository.image.mode "volume") (semverCompare "<1.33.0-0" $.Capabilities.KubeVersion.Version) }}
{{ $here }}.repository.image.mode: volumes of images came with Kubernetes 1.33, this is {{ $.Capabilities.KubeVersion.Version }}; set copy
{{- end }}
{{- if .sharedMemory }}
{{- $limit := dig "limits" "memory" "" .resources }}
{{- if and $limit (ge (include "postern.bytes" .sharedMemory | int64) (include "postern.bytes" $limit | int64)) }}
{{ $here }}.sharedMemory: {{ .sharedMemory }} counts to the memory limit of {{ $limit }} and leaves nothing of it; raise resources.limits.memory
{{- end }}
{{- end }}
{{- with .autoscaling }}
{{- if and (ne .kind "none") (gt (int .minReplicas) (int .maxReplicas)) }}
{{ $here }}.autoscaling: minReplicas {{ .minReplicas }} is above maxReplicas {{ .maxReplicas }}
{{- end }}
{{- if and (eq .kind "keda") (not .serverAddress) }}
{{ $here }}.autoscaling.serverAddress: KEDA asks Prometheus; set its address, such as http://prometheus-operated.monitoring:9090
{{- end }}
{{- if and (eq .kind "keda") (kindIs "invalid" .queueMilliseconds) (kindIs "invalid" .waitingPerPod) (not .extraTriggers) }}
{{ $here }}.autoscaling: nothing to scale by; set queueMilliseconds or waitingPerPod
{{- end }}
{{- if and (eq .kind "hpa") (not .metrics) (kindIs "invalid" .waitingPerPod) }}
{{ $here }}.autoscaling: nothing to scale by; set metrics or waitingPerPod
{{- end }}
{{- end }}
{{- range $model, $told := .models }}
{{- $as := dig "as" $model ($told | default dict) }}
{{- if dig "dialect" "" ($told | default dict) }}
{{- if hasKey $seen $as }}
{{ $here }}.models.{{ $model }}: {{ $as }} is a model of triton.servers.{{ get $seen $as }} already; name one of them otherwise by `as`, or make it one server with more replicas
{{- end }}
{{- $_ := set $seen $as $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Values of `triton` that contradict one another: a line each, with what to do. */}}
{{- define "postern.tritonFaults" -}}
{{- end }}

{{/* What one may want to know of them: a line each. */}}
{{- define "postern.tritonNotes" -}}
{{- range $name, $server := include "postern.tritonServers" . | fromYaml }}
{{- $ids := dict "root" $ "name" $name "server" $server }}
Triton {{ $name }} is ready once {{ keys $server.models | sortAlpha | join ", " }} {{ ternary "is" "are" (eq (len $server.models) 1) }} loaded, within {{ $server.startupSeconds }} s: kubectl -n {{ $.Release.Namespace }} rollout status statefulset/{{ include "postern.tritonName" $ids }}
{{- range $model, $told := $server.models }}
{{- $as := dig "as" $model ($told | default dict) }}
{{- $longest := dig $as "timeouts" "total_s" 600 ($.Values.config.models | default dict) | float64 }}
{{- if and (dig "dialect" "" ($told | default dict)) (gt (addf $longest 30) (float64 $server.terminationGracePeriodSeconds)) }}
Answers of {{ $as }} may take {{ $longest }} s, triton.servers.{{ $name }}.terminationGracePeriodSeconds is {{ $server.terminationGracePeriodSeconds }}: a pod that goes cuts what takes longer.
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.triton.servers .Values.existingConfigMap }}
The configuration is your own ConfigMap's: these are the models of triton.servers for it: {{ include "postern.tritonModels" . | fromYaml | toJson }}
{{- end }}
{{- end }}
