{{/* Items of a NetworkPolicy's `egress`, from the gateway to Triton. Takes the root; nothing where there is none. */}}
{{- define "postern.tritonEgress" -}}
{{- end }}

{{/* Values of `triton` that contradict one another: a line each, with what to do. */}}
{{- define "postern.tritonFaults" -}}
{{- end }}
