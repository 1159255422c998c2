{{/* The name of the release's objects. */}}
{{- define "hachi.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "hachi.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Takes (list $ "installer"). */}}
{{- define "hachi.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "hachi.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{/* Takes (list $ "installer"). */}}
{{- define "hachi.account" -}}
{{- $ := index . 0 -}}
{{- $part := index . 1 -}}
{{- $own := index $.Values.serviceAccount $part -}}
{{- if $own }}{{ $own }}{{ else if $.Values.serviceAccount.create }}{{ include "hachi.fullname" $ }}-{{ $part }}{{ else }}default{{ end }}
{{- end }}

{{/* Capabilities of the installer beside none. All but the last are for work on the host's files and for containerd's
own check of its configuration; the last is for running a command in the host's namespaces. */}}
{{- define "hachi.installer.capabilities" -}}
- CHOWN
- DAC_OVERRIDE
- FOWNER
- KILL
- SYS_CHROOT
- SYS_PTRACE
{{- if or .Values.installer.containerd.restartCommand (ne .Values.installer.containerd.restart "signal") }}
- SYS_ADMIN
{{- end }}
{{- end }}
