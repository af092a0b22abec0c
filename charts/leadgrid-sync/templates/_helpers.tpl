{{/* Names, labels, and what the manifests share. */}}

{{- define "leadgrid-sync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 letters: the longest suffix, a Job's, has 19, and a pod's name takes 6 more. */}}
{{- define "leadgrid-sync.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- $name = .Release.Name }}
{{- else }}
{{- $name = printf "%s-%s" .Release.Name $name }}
{{- end }}
{{- $name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "leadgrid-sync.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: leadgrid-sync
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "leadgrid-sync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "leadgrid-sync.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* metadata of a resource: dict root, component (may be left out), name, labels, annotations */}}
{{- define "leadgrid-sync.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- if .component }}
  {{- include "leadgrid-sync.selectorLabels" . | nindent 2 }}
  {{- else }}
  app.kubernetes.io/name: {{ include "leadgrid-sync.name" .root }}
  app.kubernetes.io/instance: {{ .root.Release.Name }}
  {{- end }}
  {{- include "leadgrid-sync.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "leadgrid-sync.image" -}}
{{- $image := .Values.image }}
{{- $name := $image.repository }}
{{- if $image.registry }}
{{- $name = printf "%s/%s" (trimSuffix "/" $image.registry) $name }}
{{- end }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "leadgrid-sync.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "leadgrid-sync.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* How many pods there are at least: dict of a program's values. */}}
{{- define "leadgrid-sync.leastReplicas" -}}
{{- if .autoscaling.enabled }}{{ .autoscaling.minReplicas }}
{{- else if dig "keda" "enabled" false . }}{{ .keda.minReplicas }}
{{- else }}{{ .replicas }}
{{- end }}
{{- end }}

{{/*
The secrets, by what they are called in the values: the setting that each is, and whether all need it. This is the one
place that knows.
*/}}
{{- define "leadgrid-sync.secrets" -}}
databaseUrl: {setting: DATABASE_URL, required: true}
apiKey: {setting: LEADGRID_API_KEY, required: true}
webhookSecret: {setting: LEADGRID_WEBHOOK_SECRET, required: true}
migrationDatabaseUrl: {setting: DATABASE_URL}
adminPassword: {setting: ADMIN_PASSWORD}
hashKey: {setting: LEADGRID_HASH_KEY}
{{- end }}

{{/* Name of the Secret that holds a secret, empty if none does: dict root, secret */}}
{{- define "leadgrid-sync.secretName" -}}
{{- $given := get .root.Values.secrets .secret }}
{{- $known := get (include "leadgrid-sync.secrets" .root | fromYaml) .secret }}
{{- if $given.value }}{{ include "leadgrid-sync.fullname" .root }}
{{- else if $given.existingSecret }}{{ tpl $given.existingSecret .root }}
{{- else if $known.required }}{{ tpl .root.Values.secrets.existingSecret .root }}
{{- end }}
{{- end }}

{{/* Key of a secret in its Secret. In the chart's own each has its name: two keys of the values may be equal. */}}
{{- define "leadgrid-sync.secretKey" -}}
{{- $given := get .root.Values.secrets .secret }}
{{- if $given.value }}{{ .secret }}{{ else }}{{ $given.key }}{{ end }}
{{- end }}

{{- define "leadgrid-sync.hasMappings" -}}
{{- if or .Values.mappings.config .Values.mappings.existingConfigMap }}true{{ end }}
{{- end }}
