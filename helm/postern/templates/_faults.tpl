{{/*
What the schema can't see: values that contradict one another. Every fault at once, each with what to do about it.
*/}}
{{- define "postern.faults" -}}
{{- $faults := list }}
{{- $redis := include "postern.redisUrl" . }}
{{- $config := include "postern.givenConfig" . | fromYaml }}
{{- $name := include "postern.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- $faults = append $faults (printf "the name %s: a Service's begins with a letter and has letters, digits and dashes only; call the release otherwise, or set fullnameOverride" $name) }}
{{- end }}
{{- with .Values }}
{{- $server := .config.server | default dict }}
{{- if and .autoscaling.enabled .keda.enabled }}
{{- $faults = append $faults "autoscaling.enabled and keda.enabled: two scalers would pull the same Deployment to and fro; switch one off" }}
{{- end }}
{{- if and .autoscaling.enabled (kindIs "invalid" .autoscaling.inFlightPerPod) (kindIs "invalid" .autoscaling.cpuPercent) }}
{{- $faults = append $faults "autoscaling: nothing to scale by; set autoscaling.inFlightPerPod or autoscaling.cpuPercent" }}
{{- end }}
{{- range $name, $scaler := dict "autoscaling" .autoscaling "keda" .keda }}
{{- if and $scaler.enabled (gt (int $scaler.minReplicas) (int $scaler.maxReplicas)) }}
{{- $faults = append $faults (printf "%s: minReplicas %d is above maxReplicas %d" $name (int $scaler.minReplicas) (int $scaler.maxReplicas)) }}
{{- end }}
{{- end }}
{{- if and .keda.enabled (not .keda.serverAddress) }}
{{- $faults = append $faults "keda.serverAddress: KEDA asks Prometheus; set its address, such as http://prometheus-operated.monitoring:9090" }}
{{- end }}
{{- if and .config .existingConfigMap }}
{{- $faults = append $faults "config and existingConfigMap: the gateway reads one configuration; leave one of them empty" }}
{{- end }}
{{- range $section := list "models" "routes" }}
{{- if not (get $config $section) }}
{{- $faults = append $faults (printf "config.%s: is missing; a configuration needs models and routes, and without any config two simulated models serve" $section) }}
{{- end }}
{{- end }}
{{- range $key := list "host" "port" "admin_host" "admin_port" }}
{{- if hasKey $server $key }}
{{- $faults = append $faults (printf "config.server.%s: the chart's own, as services and probes hang on it; leave it out (listenAddress changes both hosts)" $key) }}
{{- end }}
{{- end }}
{{- if hasKey $server "shutdown_grace_s" }}
{{- $faults = append $faults "config.server.shutdown_grace_s: set drain.streamSeconds, from which the pod's grace period comes too" }}
{{- end }}
{{- if hasKey (.config.redis | default dict) "url" }}
{{- $faults = append $faults "config.redis.url: set the values `redis`, so that credentials and network policy fit it" }}
{{- else if and .config.redis (not $redis) }}
{{- $faults = append $faults "config.redis: there is no Redis; set the values `redis`, or leave it out" }}
{{- end }}
{{- if not (or $redis .existingConfigMap) }}
{{- if and (include "postern.hasSeveralPods" $) (not .allowPerPodState) }}
{{- $faults = append $faults "replicas: several pods without Redis have a cache, marks of answers, conversations and a strong share each; set the values `redis`, or accept that with allowPerPodState: true" }}
{{- end }}
{{- if gt (int ($server.workers | default 1)) 1 }}
{{- $faults = append $faults "config.server.workers: several processes need Redis; set the values `redis`, or add pods instead" }}
{{- end }}
{{- end }}
{{- range $name, $route := .config.routes | default dict }}
{{- range $model := concat ($route.models | default list) ($route.fallback | default list) | uniq }}
{{- if not (hasKey ($config.models | default dict) $model) }}
{{- $faults = append $faults (printf "config.routes.%s: %s is none of config.models" $name $model) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (or .existingSecrets .extraEnvFrom) }}
{{- $known := keys .secrets }}
{{- range concat .extraEnv (include "postern.redisEnv" $ | fromYamlArray) }}{{ $known = append $known .name }}{{ end }}
{{- range (include "postern.askedVariables" $ | fromYaml).names }}
{{- if not (has . $known) }}
{{- $faults = append $faults (printf "config: ${%s} is set by nothing; name a Secret that has the key %s in existingSecrets, or set it in secrets or extraEnv ($$ is a dollar)" . .) }}
{{- end }}
{{- end }}
{{- end }}
{{- range regexFindAll "[$][{]file:/etc/postern-secrets/[^/}]+" (toYaml .config | replace "$$" "") -1 | uniq }}
{{- $secret := trimPrefix "${file:/etc/postern-secrets/" . }}
{{- if not (has $secret $.Values.secretFiles) }}
{{- $faults = append $faults (printf "config: a file of the Secret %s is mounted by nothing; name %s in secretFiles" $secret $secret) }}
{{- end }}
{{- end }}
{{- if and .podDisruptionBudget.enabled (kindIs "invalid" .podDisruptionBudget.maxUnavailable) (kindIs "invalid" .podDisruptionBudget.minAvailable) }}
{{- $faults = append $faults "podDisruptionBudget: set maxUnavailable or minAvailable" }}
{{- end }}
{{- if hasKey .configFiles "postern.yaml" }}
{{- $faults = append $faults "configFiles: postern.yaml is the configuration itself; write it as `config`" }}
{{- end }}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) }}
{{- $faults = append $faults "httpRoute.parentRefs: name the Gateway, such as [{name: public, namespace: gateways}]" }}
{{- end }}
{{- if and .metrics.serviceMonitor.enabled (not .metrics.service.enabled) }}
{{- $faults = append $faults "metrics.serviceMonitor: scrapes through metrics.service; enable that too" }}
{{- end }}
{{- end }}
{{- range list "postern.redisFaults" "postern.tritonFaults" }}
{{- range include . $ | splitList "\n" }}
{{- with trim . }}{{ $faults = append $faults . }}{{ end }}
{{- end }}
{{- end }}
{{- if $faults }}
{{- fail (printf "\n\nThese values do not go together:\n  - %s\n" (join "\n  - " $faults)) }}
{{- end }}
{{- end }}
