{{- define "postern.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters: a name has 63, and the longest suffix 11. */}}
{{- define "postern.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What never changes, as selectors can't. Takes (dict "root" $ "component" NAME). */}}
{{- define "postern.selectorLabels" -}}
app.kubernetes.io/name: {{ include "postern.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "postern.ownLabels" -}}
{{ include "postern.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: postern
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of an object. Takes (dict "root" $ "component" NAME), with "labels" for more. */}}
{{- define "postern.labels" -}}
{{- toYaml (merge (include "postern.ownLabels" . | fromYaml) (.labels | default dict) .root.Values.commonLabels) }}
{{- end }}

{{/*
Labels of pods that a new chart alone must not replace: Redis' would forget, Triton's load weights for minutes. So they
carry no version. Takes what postern.labels takes.
*/}}
{{- define "postern.steadyLabels" -}}
{{- toYaml (omit (include "postern.labels" . | fromYaml) "app.kubernetes.io/version" "helm.sh/chart") }}
{{- end }}

{{/*
All of an object's metadata but the key itself. Takes (dict "root" $ "component" NAME), with "suffix" for the name,
"labels", "annotations" and "namespace" where there are such.
*/}}
{{- define "postern.metadata" -}}
name: {{ include "postern.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .namespace | default .root.Release.Namespace | quote }}
labels:
  {{- include "postern.labels" . | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image's full name. Takes (dict "root" $ "image" {registry, repository, tag, digest} "tag" DEFAULT_TAG). */}}
{{- define "postern.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry }}
{{- $name := .image.repository }}
{{- if $registry }}{{ $name = printf "%s/%s" $registry .image.repository }}{{ end }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (.image.tag | default .tag) }}
{{- end }}
{{- end }}

{{/* `imagePullSecrets:` and its list, or nothing. Takes the root. */}}
{{- define "postern.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets | uniq }}
imagePullSecrets:
{{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the restricted profile asks of a pod, and the image's user, under the value `podSecurityContext`. */}}
{{- define "postern.podSecurityContext" -}}
{{- $own := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 }}
{{- $_ := set $own "fsGroupChangePolicy" "OnRootMismatch" }}
{{- $_ := set $own "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- include "postern.over" (dict "own" $own "over" .Values.podSecurityContext) }}
{{- end }}

{{/* What it asks of a container, under the value `securityContext`. */}}
{{- define "postern.securityContext" -}}
{{- $own := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true }}
{{- $_ := set $own "capabilities" (dict "drop" (list "ALL")) }}
{{- include "postern.over" (dict "own" $own "over" .Values.securityContext) }}
{{- end }}

{{/* `own` with the keys of `over` on top; those that are null there are left out. */}}
{{- define "postern.over" -}}
{{- range $key, $value := .over }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $.own $key }}{{ else }}{{ $_ := set $.own $key $value }}{{ end }}
{{- end }}
{{- toYaml .own }}
{{- end }}

{{- define "postern.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "postern.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* "true" where more than one pod may run. */}}
{{- define "postern.hasSeveralPods" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled (gt (int .Values.replicas) 1) }}true{{ end }}
{{- end }}

{{/* A list of objects, with what is templated in it filled in. Takes (dict "root" $ "list" LIST). */}}
{{- define "postern.templated" -}}
{{- tpl (toYaml .list) .root }}
{{- end }}
