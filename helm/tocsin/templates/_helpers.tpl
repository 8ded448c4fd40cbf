{{/* The release's full name. */}}
{{- define "tocsin.fullname" -}}
{{- if contains "tocsin" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-tocsin" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tocsin.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if .Values.serviceAccount.create }}{{ include "tocsin.fullname" . }}{{ else }}default{{ end }}
{{- end }}

{{/* Labels that select one service's pods. Takes (list root name). */}}
{{- define "tocsin.selector" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end }}

{{/* All labels of one service. Takes (list root name). */}}
{{- define "tocsin.labels" -}}
{{ include "tocsin.selector" . }}
app.kubernetes.io/part-of: tocsin
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* The fleet's configuration file. */}}
{{- define "tocsin.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $auth := dig "ingest_gateway" "auth" dict $config }}
{{- if and (index .Values.services "ingest-gateway").enabled (not $auth.gateways) (not $auth.allow_anonymous) }}
{{- fail "config.ingest_gateway.auth.gateways is empty: list the gateways that may send, or set allow_anonymous: true" }}
{{- end }}
{{- $people := dig "historical_api" "auth" dict $config }}
{{- if and (index .Values.services "historical-api").enabled (not $people.people) (not $people.allow_anonymous) }}
{{- fail "config.historical_api.auth.people is empty: list the people who may ask, set allow_anonymous: true, or leave the service out with services.historical-api.enabled: false" }}
{{- end }}
{{- $viewers := dig "realtime_api" "auth" dict $config }}
{{- if and (index .Values.services "realtime-api").enabled (not $viewers.people) (not $viewers.allow_anonymous) }}
{{- fail "config.realtime_api.auth.people is empty: list the people who may look, set allow_anonymous: true, or leave the service out with services.realtime-api.enabled: false" }}
{{- end }}
{{- $backends := dig "realtime_api" "backends" dict $config }}
{{- range $key, $name := dict "alert_router" "alert-router" "historical_api" "historical-api" "model_trainer" "model-trainer" "tuning_bench" "tuning-bench" "stream_processor" "stream-processor" }}
{{- if and (not (hasKey $backends $key)) (index $.Values.services $name).enabled }}
{{- $_ := set $backends $key (printf "http://%s-%s:%v" (include "tocsin.fullname" $) $name (index $.Values.services $name).ports.http) }}
{{- end }}
{{- end }}
{{- if $config.realtime_api }}
{{- $_ := set $config.realtime_api "backends" $backends }}
{{- end }}
{{- if and $config.alert_router (index .Values.services "realtime-api").enabled (not (hasKey $config.alert_router "live_url")) }}
{{- $_ := set $config.alert_router "live_url" (printf "http://%s-realtime-api:%v" (include "tocsin.fullname" $) (index .Values.services "realtime-api").ports.http) }}
{{- end }}
{{- $clients := dig "model_trainer" "auth" dict $config }}
{{- if and (index .Values.services "model-trainer").enabled (not $clients.clients) (not $clients.allow_anonymous) }}
{{- fail "config.model_trainer.auth.clients is empty: list the clients that may ask, set allow_anonymous: true, or leave the service out with services.model-trainer.enabled: false" }}
{{- end }}
{{- $triers := dig "tuning_bench" "auth" dict $config }}
{{- if and (index .Values.services "tuning-bench").enabled (not $triers.people) (not $triers.allow_anonymous) }}
{{- fail "config.tuning_bench.auth.people is empty: list the people who may try settings, set allow_anonymous: true, or leave the service out with services.tuning-bench.enabled: false" }}
{{- end }}
{{- if not (index .Values.services "iceberg-committer").enabled }}
{{- $_ := unset $config "iceberg_committer" }}
{{- else if not (dig "iceberg_committer" "iceberg" "catalog" "" $config) }}
{{- fail "config.iceberg_committer.iceberg.catalog is empty: name the PostgreSQL database or the REST catalog that the tables shall be in" }}
{{- end }}
{{- if .Values.alertRouting.existingSecret }}
{{- $_ := set $config.alert_router "routing_file" "/etc/tocsin/routing/routing.yml" }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Ends the rendering if a service's autoscaling asks for what cannot work. Takes (list root name service). */}}
{{- define "tocsin.checkScaling" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $s := index . 2 }}
{{- $most := $s.replicas }}
{{- if ne $s.autoscaling.mode "none" }}{{ $most = $s.autoscaling.max }}{{ end }}
{{- if and $s.instanceSection (gt (int $most) (int $root.Values.config.kafka.partitions)) }}
{{- fail (printf "services.%s: %d replicas, but only %d partitions to share among them" $name (int $most) (int $root.Values.config.kafka.partitions)) }}
{{- end }}
{{- if gt (int $s.autoscaling.min) (int $s.autoscaling.max) }}
{{- fail (printf "services.%s.autoscaling: min %d is more than max %d" $name (int $s.autoscaling.min) (int $s.autoscaling.max)) }}
{{- end }}
{{- end }}

{{/* The pod of one service. Takes (list root name service). */}}
{{- define "tocsin.pod" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $s := index . 2 }}
metadata:
  labels:
    {{- include "tocsin.labels" (list $root $name) | nindent 4 }}
  annotations:
    # A changed configuration is a new pod.
    checksum/config: {{ include "tocsin.config" $root | sha256sum }}
    prometheus.io/scrape: "true"
    prometheus.io/path: /metrics
    prometheus.io/port: {{ $s.ports.http | quote }}
    {{- with $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tocsin.serviceAccount" $root }}
  # No service speaks to the Kubernetes API.
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $s.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $name }}
      image: "{{ $root.Values.image.registry }}/{{ $name }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: ["--config", "/etc/tocsin/tocsin.yaml"]
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- with $s.instanceSection }}
        # The slot in the consumer group: the same after a restart.
        - name: TOCSIN_{{ upper . }}_INSTANCE_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        {{- with (dig "limits" "memory" "" $s.resources) }}
        # The garbage collector works harder before the kernel kills.
        - name: GOMEMLIMIT
          valueFrom:
            resourceFieldRef:
              resource: limits.memory
        {{- end }}
        {{- with concat $root.Values.env $s.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range $port, $number := $s.ports }}
        - name: {{ $port }}
          containerPort: {{ $number }}
          protocol: TCP
        {{- end }}
      startupProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 2
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /health/ready, port: http}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      resources:
        {{- toYaml $s.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/tocsin/tocsin.yaml
          subPath: tocsin.yaml
          readOnly: true
        {{- if and (eq $name "alert-router") $root.Values.alertRouting.existingSecret }}
        - name: routing
          mountPath: /etc/tocsin/routing
          readOnly: true
        {{- end }}
        - name: data
          mountPath: /var/lib/tocsin
        - name: tmp
          mountPath: /tmp
        {{- with $root.Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "tocsin.fullname" $root }}
    {{- if and (eq $name "alert-router") $root.Values.alertRouting.existingSecret }}
    - name: routing
      secret:
        secretName: {{ $root.Values.alertRouting.existingSecret }}
    {{- end }}
    {{- if not (and (eq $s.kind "StatefulSet") $s.persistence.enabled) }}
    - name: data
      emptyDir: {}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- with $root.Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "tocsin.selector" (list $root $name) | nindent 10 }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
