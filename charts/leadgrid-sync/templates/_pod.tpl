{{/*
A pod of ours. dict
  root       the chart
  component  receiver, worker or migrate
  values     that component's values
  secrets    what it may see, as called under .Values.secrets
  mappings   whether it reads the mappings
  container  the container's own part: command, args, ports, probes
  env        environment that only this component has: name → value
  spec       the pod's own part
*/}}
{{- define "leadgrid-sync.pod" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $tls := $root.Values.database.tls }}
{{- $known := include "leadgrid-sync.secrets" $root | fromYaml }}
{{- $files := list }}
{{- $env := merge (dict) .env $values.settings $root.Values.settings }}
{{- range .secrets }}
  {{- $secret := include "leadgrid-sync.secretName" (dict "root" $root "secret" .) }}
  {{- if $secret }}
    {{- $setting := (get $known .).setting }}
    {{- $key := include "leadgrid-sync.secretKey" (dict "root" $root "secret" .) }}
    {{- $files = append $files (dict "secret" (dict "name" $secret "items" (list (dict "key" $key "path" $setting)))) }}
    {{- $_ := set $env (printf "%s_FILE" $setting) (printf "/etc/leadgrid-sync/secrets/%s" $setting) }}
  {{- end }}
{{- end }}
{{- $mappings := and .mappings (include "leadgrid-sync.hasMappings" $root) }}
{{- if $mappings }}
  {{- $_ := set $env "LEADGRID_MAPPINGS" "/etc/leadgrid-sync/mappings/mappings.yaml" }}
{{- end }}
{{- with $tls.mode }}
  {{- $_ := set $env "PGSSLMODE" . }}
{{- end }}
{{- if $tls.existingSecret }}
  {{- range $name, $file := dict "PGSSLROOTCERT" $tls.caKey "PGSSLCERT" $tls.certKey "PGSSLKEY" $tls.keyKey }}
    {{- if $file }}
      {{- $_ := set $env $name (printf "/etc/leadgrid-sync/database/%s" $file) }}
    {{- end }}
  {{- end }}
{{- end }}
metadata:
  labels:
    {{- include "leadgrid-sync.selectorLabels" . | nindent 4 }}
    {{- include "leadgrid-sync.labels" $root | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .component }}
    {{- if and $mappings $root.Values.mappings.config }}
    checksum/mappings: {{ sha256sum $root.Values.mappings.config }}
    {{- end }}
    {{- with merge (dict) $values.podAnnotations $root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "leadgrid-sync.serviceAccountName" $root }}
  automountServiceAccountToken: false
  # Our settings begin with LEADGRID_, and so would the links to a Service named leadgrid-something.
  enableServiceLinks: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with .spec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "leadgrid-sync.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      {{- toYaml .container | nindent 6 }}
      env:
        {{- range $name, $value := $env }}
        - name: {{ $name }}
          value: {{ $value | toString | quote }}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - name: secrets
          mountPath: /etc/leadgrid-sync/secrets
          readOnly: true
        {{- if $mappings }}
        - name: mappings
          mountPath: /etc/leadgrid-sync/mappings
          readOnly: true
        {{- end }}
        {{- if $tls.existingSecret }}
        - name: database
          mountPath: /etc/leadgrid-sync/database
          readOnly: true
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: secrets
      projected:
        # The group is the pod's fsGroup.
        defaultMode: 0440
        sources:
          {{- toYaml $files | nindent 10 }}
    {{- if $mappings }}
    - name: mappings
      configMap:
        name: {{ default (printf "%s-mappings" (include "leadgrid-sync.fullname" $root)) $root.Values.mappings.existingConfigMap }}
        items:
          - key: {{ $root.Values.mappings.existingConfigMap | empty | ternary "mappings.yaml" $root.Values.mappings.key }}
            path: mappings.yaml
    {{- end }}
    {{- if $tls.existingSecret }}
    - name: database
      secret:
        secretName: {{ tpl $tls.existingSecret $root }}
        defaultMode: 0440
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/*
What the two programs that go on running share: probes on the admin port, how they stop, how they spread.
dict root, component, values, and adminPort. Gives {container, spec}.
*/}}
{{- define "leadgrid-sync.server" -}}
{{- $values := .values }}
{{- $selector := include "leadgrid-sync.selectorLabels" . | fromYaml }}
container:
  {{- range $probe, $path := dict "startupProbe" "/healthz" "livenessProbe" "/healthz" "readinessProbe" "/readyz" }}
  {{ $probe }}:
    httpGet: {path: {{ $path }}, port: admin}
    {{- toYaml (get $values $probe) | nindent 4 }}
  {{- end }}
  {{- with $values.preStopSeconds }}
  lifecycle:
    preStop:
      sleep: {seconds: {{ . }}}
  {{- end }}
spec:
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" (dict "matchLabels" $selector) "matchLabelKeys" (list "pod-template-hash")) .)) | nindent 6 | trim }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* The Deployment of a program: dict root, component, values, pod (the pod as YAML) */}}
{{- define "leadgrid-sync.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "leadgrid-sync.metadata" (dict "root" .root "component" .component "annotations" .values.deploymentAnnotations
        "name" (printf "%s-%s" (include "leadgrid-sync.fullname" .root) .component)) | nindent 2 }}
spec:
  {{- if not (or .values.autoscaling.enabled (dig "keda" "enabled" false .values)) }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: {{ .values.revisionHistoryLimit }}
  strategy:
    {{- toYaml .values.strategy | nindent 4 }}
  selector:
    matchLabels:
      {{- include "leadgrid-sync.selectorLabels" . | nindent 6 }}
  template:
    {{- .pod | trim | nindent 4 }}
{{- end }}
