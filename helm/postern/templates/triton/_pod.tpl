{{/* Arguments of tritonserver. POD_UID is nothing that a caller from elsewhere can know. */}}
{{- define "postern.tritonArgs" -}}
{{- with .server }}
- --model-repository={{ .repository.url | default "/repository" }}
- --model-control-mode=explicit
{{- range $model, $_ := .models }}
- --load-model={{ $model }}
{{- end }}
# Loading and unloading, shared memory, traces and logs are for this pod alone: who may load a model runs code.
- --http-restricted-api=model-repository,shared-memory,trace,logging:postern-pod=$(POD_UID)
- --grpc-restricted-protocol=model-repository,shared-memory,trace,logging:postern-pod=$(POD_UID)
- --exit-timeout-secs={{ sub (int .terminationGracePeriodSeconds) 15 | max 1 }}
{{- with .extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Asks the models that are listed, and these only: /v2/health/ready says no as soon as any model is unloaded. The kubelet
can ask one page; for several models a process does, inside.
*/}}
{{- define "postern.tritonReady" -}}
{{- $models := keys .server.models | sortAlpha }}
{{- if eq (len $models) 1 }}
httpGet:
  path: /v2/models/{{ first $models }}/ready
  port: http
timeoutSeconds: 5
{{- else }}
exec:
  command: {{ concat (list "python3" "/opt/postern/ready.py") $models | toJson }}
timeoutSeconds: 10
{{- end }}
{{- end }}

{{- define "postern.tritonContainer" -}}
{{- $models := keys .server.models | sortAlpha }}
{{- with .server }}
name: triton
image: {{ include "postern.image" (dict "root" $.root "image" .image "tag" "") }}
imagePullPolicy: {{ .image.pullPolicy }}
# No command: the image's entrypoint stays, which makes newer CUDA work with older drivers.
args:
  {{- toYaml .command | nindent 2 }}
  {{- include "postern.tritonArgs" $ | trim | nindent 2 }}
env:
  - name: POD_UID
    valueFrom:
      fieldRef:
        fieldPath: metadata.uid
  # Everything that is downloaded or compiled goes to the cache: the user that Triton runs as has no home of its own.
  - {name: HOME, value: /cache}
  - {name: HF_HOME, value: /cache/huggingface}
  {{- with .huggingFace.existingSecret }}
  - name: HF_TOKEN
    valueFrom:
      secretKeyRef:
        name: {{ . }}
        key: {{ $.server.huggingFace.existingSecretKey }}
  {{- end }}
  {{- with .env }}
  {{- include "postern.templated" (dict "root" $.root "list" .) | nindent 2 }}
  {{- end }}
{{- with .envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- $own := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) }}
  {{- include "postern.over" (dict "own" $own "over" .securityContext) | nindent 2 }}
ports:
  - {name: http, containerPort: 8000}
  - {name: grpc, containerPort: 8001}
  - {name: metrics, containerPort: 8002}
startupProbe:
  {{- include "postern.tritonReady" $ | nindent 2 }}
  periodSeconds: 10
  failureThreshold: {{ div (add (int .startupSeconds) 9) 10 }}
readinessProbe:
  {{- include "postern.tritonReady" $ | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet:
    path: /v2/health/live
    port: http
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
lifecycle:
  preStop:
    exec:
      command: {{ concat (list "python3" "/opt/postern/drain.py") $models | toJson }}
resources:
  {{- $resources := deepCopy .resources }}
  {{- if gt (int .gpu.count) 0 }}
  {{- range $part := list "requests" "limits" }}
  {{- $_ := set $resources $part (merge (dict $.server.gpu.resource (int $.server.gpu.count)) (get $resources $part | default dict)) }}
  {{- end }}
  {{- end }}
  {{- toYaml $resources | nindent 2 }}
volumeMounts:
  {{- include "postern.tritonMounts" $ | nindent 2 }}
{{- end }}
{{- end }}

{{/* Mounts of Triton and of the containers that run before it. */}}
{{- define "postern.tritonMounts" -}}
{{- with .server }}
- {name: scripts, mountPath: /opt/postern, readOnly: true}
- {name: cache, mountPath: /cache}
- {name: tmp, mountPath: /tmp}
{{- if .sharedMemory }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- if .repository.files }}
# A folder each: beside them a ConfigMap's volume has folders of its own, which Triton would take for models.
{{- range $model := include "postern.tritonFolders" $ | fromYamlArray }}
- {name: repository, mountPath: /repository/{{ $model }}, subPath: {{ $model }}, readOnly: true}
{{- end }}
{{- else if .repository.persistentVolumeClaim.existingClaim }}
- {name: repository, mountPath: /repository, readOnly: true{{ with .repository.persistentVolumeClaim.subPath }}, subPath: {{ . }}{{ end }}}
{{- else if and .repository.image.reference (eq .repository.image.mode "volume") }}
- {name: repository, mountPath: /repository, subPath: {{ trimPrefix "/" .repository.image.path }}, readOnly: true}
{{- else if not .repository.url }}
- {name: repository, mountPath: /repository}
{{- end }}
{{- with .volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Folders of `repository.files`. */}}
{{- define "postern.tritonFolders" -}}
{{- $folders := list }}
{{- range $path, $_ := .server.repository.files }}
{{- $folders = append $folders (splitList "/" $path | first) }}
{{- end }}
{{- $folders | uniq | toYaml }}
{{- end }}

{{- define "postern.tritonVolumes" -}}
{{- with .server }}
- name: scripts
  configMap:
    name: {{ include "postern.tritonName" $ }}-scripts
- name: tmp
  emptyDir:
    sizeLimit: 8Gi
{{- if .sharedMemory }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .sharedMemory }}
{{- end }}
{{- if .cache.existingClaim }}
- name: cache
  persistentVolumeClaim:
    claimName: {{ .cache.existingClaim }}
{{- else if not .cache.size }}
- name: cache
  emptyDir:
    sizeLimit: {{ .cache.sizeLimit }}
{{- end }}
{{- if .repository.files }}
- name: repository
  configMap:
    name: {{ include "postern.tritonName" $ }}-models
    items:
      {{- range $path, $_ := .repository.files }}
      - key: {{ include "postern.tritonKey" $path }}
        path: {{ $path }}
      {{- end }}
{{- else if .repository.persistentVolumeClaim.existingClaim }}
- name: repository
  persistentVolumeClaim:
    claimName: {{ .repository.persistentVolumeClaim.existingClaim }}
    readOnly: true
{{- else if and .repository.image.reference (eq .repository.image.mode "volume") }}
- name: repository
  image:
    reference: {{ .repository.image.reference }}
    pullPolicy: {{ .repository.image.pullPolicy }}
{{- else if not .repository.url }}
- name: repository
  emptyDir: {}
{{- end }}
{{- with .volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* A path as a ConfigMap's key, which has no slashes. */}}
{{- define "postern.tritonKey" -}}
{{ replace "/" "__" . }}
{{- end }}

{{/* What copies the repository out of its image, and what the user lets run before. */}}
{{- define "postern.tritonInit" -}}
{{- with .server }}
{{- if and .repository.image.reference (eq .repository.image.mode "copy") }}
- name: repository
  image: {{ .repository.image.reference }}
  imagePullPolicy: {{ .repository.image.pullPolicy }}
  command: [cp, -R, {{ trimSuffix "/" .repository.image.path }}/., /repository/]
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
  resources:
    requests: {cpu: 100m, memory: 64Mi}
    limits: {memory: 1Gi}
  volumeMounts:
    - {name: repository, mountPath: /repository}
{{- end }}
{{- with .initContainers }}
{{- $filled := list }}
{{- range . }}
{{- $own := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) }}
{{- $filled = append $filled (merge (deepCopy .) (dict "securityContext" $own)) }}
{{- end }}
{{ include "postern.templated" (dict "root" $.root "list" $filled) }}
{{- end }}
{{- end }}
{{- end }}
