{{/* What all pods of the gateway's image share: who they are, and where they may run. Takes the root. */}}
{{- define "postern.podBase" -}}
serviceAccountName: {{ include "postern.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
enableServiceLinks: false
{{- include "postern.imagePullSecrets" . }}
securityContext:
  {{- include "postern.podSecurityContext" . | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Over zones and nodes as far as that goes; matchLabelKeys counts each generation of pods by itself. */}}
{{- define "postern.topologySpread" -}}
{{- $labels := include "postern.selectorLabels" (dict "root" . "component" "gateway") | fromYaml }}
{{- $spread := .Values.topologySpreadConstraints }}
{{- if kindIs "invalid" $spread }}
{{- $spread = list }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- $one := dict "topologyKey" $key "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" }}
{{- $spread = append $spread (set $one "matchLabelKeys" (list "pod-template-hash")) }}
{{- end }}
{{- end }}
{{- $filled := list }}
{{- range $spread }}
{{- $filled = append $filled (merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" $labels))) }}
{{- end }}
{{- with $filled }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Wait until proxies know that the pod is gone. The image has no shell; Kubernetes' own sleep came with 1.30. */}}
{{- define "postern.preStop" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
sleep:
  seconds: {{ .Values.drain.preStopSeconds }}
{{- else }}
exec:
  command: [postern, pause, {{ .Values.drain.preStopSeconds | quote }}]
{{- end }}
{{- end }}

{{- define "postern.podAnnotations" -}}
{{- if .Values.metrics.scrapeAnnotations }}
prometheus.io/scrape: "true"
prometheus.io/port: "8081"
prometheus.io/path: /metrics
{{- end }}
{{- if .Values.restartOnConfigChange }}
checksum/config: {{ include "postern.configData" . | sha256sum }}
{{- end }}
checksum/secrets: {{ printf "%s%s" (toJson .Values.secrets) (include "postern.redisChecksum" .) | sha256sum }}
{{- with .Values.podAnnotations }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{- define "postern.args" -}}
{{- if .Values.args }}
{{- toYaml .Values.args }}
{{- else }}
- serve
- --config
- {{ include "postern.configFile" . }}
{{- if .Values.existingConfigMap }}
- --port=8080
- --admin-port=8081
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
