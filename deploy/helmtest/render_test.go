package helmtest

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	sigsyaml "sigs.k8s.io/yaml"
)

// least is what a user must give.
func least(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chartDir, "ci", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// manifest is a rendered chart, by kind and name.
type manifest struct {
	pods     map[string]corev1.PodTemplateSpec
	selector map[string]*metav1.LabelSelector
	deploys  map[string]*appsv1.Deployment
	sets     map[string]*appsv1.StatefulSet
	services map[string]*corev1.Service
	budgets  map[string]*policyv1.PodDisruptionBudget
	hpas     map[string]*autoscalingv2.HorizontalPodAutoscaler
	scaled   map[string]*kedav1alpha1.ScaledObject
	policies map[string]*networkingv1.NetworkPolicy
	config   map[string]any
	accounts map[string]*corev1.ServiceAccount
}

func mustRender(t *testing.T, values string) manifest {
	t.Helper()
	objects, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	m := manifest{
		pods: map[string]corev1.PodTemplateSpec{}, selector: map[string]*metav1.LabelSelector{},
		deploys: map[string]*appsv1.Deployment{}, sets: map[string]*appsv1.StatefulSet{},
		services: map[string]*corev1.Service{}, budgets: map[string]*policyv1.PodDisruptionBudget{},
		hpas: map[string]*autoscalingv2.HorizontalPodAutoscaler{}, scaled: map[string]*kedav1alpha1.ScaledObject{},
		policies: map[string]*networkingv1.NetworkPolicy{}, accounts: map[string]*corev1.ServiceAccount{},
	}
	for _, o := range objects {
		name := strings.TrimPrefix(o.GetName(), "t-tocsin-")
		switch o := o.(type) {
		case *appsv1.Deployment:
			m.deploys[name], m.pods[name], m.selector[name] = o, o.Spec.Template, o.Spec.Selector
		case *appsv1.StatefulSet:
			m.sets[name], m.pods[name], m.selector[name] = o, o.Spec.Template, o.Spec.Selector
		case *corev1.Service:
			m.services[name] = o
		case *policyv1.PodDisruptionBudget:
			m.budgets[name] = o
		case *autoscalingv2.HorizontalPodAutoscaler:
			m.hpas[name] = o
		case *kedav1alpha1.ScaledObject:
			m.scaled[name] = o
		case *networkingv1.NetworkPolicy:
			m.policies[name] = o
		case *corev1.ServiceAccount:
			m.accounts[name] = o
		case *corev1.ConfigMap:
			if err := sigsyaml.UnmarshalStrict([]byte(o.Data["tocsin.yaml"]), &m.config); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func names() []string {
	return []string{"alert-router", "cold-path-writer", "historical-api", "ingest-gateway", "model-trainer", "realtime-api", "stream-processor", "tuning-bench"}
}

func TestEachServiceIsWhole(t *testing.T) {
	m := mustRender(t, least(t))
	for what, got := range map[string][]string{
		"workloads": slices.Sorted(maps.Keys(m.pods)), "services": slices.Sorted(maps.Keys(m.services)),
		"disruption budgets": slices.Sorted(maps.Keys(m.budgets)), "network policies": slices.Sorted(maps.Keys(m.policies)),
	} {
		if !slices.Equal(got, names()) {
			t.Errorf("%s of %q, want %q", what, got, names())
		}
	}
	for _, name := range names() {
		labels := m.pods[name].Labels
		for what, sel := range map[string]map[string]string{
			"workload": m.selector[name].MatchLabels, "service": m.services[name].Spec.Selector,
			"disruption budget": m.budgets[name].Spec.Selector.MatchLabels, "network policy": m.policies[name].Spec.PodSelector.MatchLabels,
		} {
			if len(sel) == 0 {
				t.Errorf("%s: the %s selects every pod", name, what)
			}
			for k, v := range sel {
				if labels[k] != v {
					t.Errorf("%s: the %s selects %s=%s, the pod has %q", name, what, k, v, labels[k])
				}
			}
		}
	}
}

func TestPodsAreConfined(t *testing.T) {
	for name, pod := range mustRender(t, least(t)).pods {
		s := pod.Spec
		ctx := s.SecurityContext
		if ctx == nil || ctx.RunAsNonRoot == nil || !*ctx.RunAsNonRoot || ctx.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security %+v", name, ctx)
		}
		if s.AutomountServiceAccountToken == nil || *s.AutomountServiceAccountToken {
			t.Errorf("%s is given a token of the Kubernetes API", name)
		}
		for _, c := range s.Containers {
			sc := c.SecurityContext
			if !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s: container security %+v", name, sc)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
				t.Errorf("%s: resources %+v", name, c.Resources)
			}
			if strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image, ":") {
				t.Errorf("%s: image %s is not pinned", name, c.Image)
			}
			checkProbe(t, name, "liveness", c.LivenessProbe, "/health/live")
			checkProbe(t, name, "readiness", c.ReadinessProbe, "/health/ready")
			checkProbe(t, name, "startup", c.StartupProbe, "/health/live")
			checkMounts(t, name, pod.Spec, c)
		}
	}
}

func checkProbe(t *testing.T, name, kind string, p *corev1.Probe, path string) {
	t.Helper()
	if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Port != intstr.FromString("http") {
		t.Errorf("%s: %s probe %+v", name, kind, p)
	}
}

func checkMounts(t *testing.T, name string, s corev1.PodSpec, c corev1.Container) {
	t.Helper()
	have := map[string]bool{"data": name == "alert-router"} // a claim
	for _, v := range s.Volumes {
		if have[v.Name] {
			t.Errorf("%s: volume %s twice", name, v.Name)
		}
		have[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		if !have[m.Name] {
			t.Errorf("%s mounts %s, which is no volume of it", name, m.Name)
		}
	}
}

// A service listens where its Service, probes and policy think that it does.
func TestPortsAreThoseOfTheConfiguration(t *testing.T) {
	m := mustRender(t, least(t))
	for _, name := range names() {
		section, ok := m.config[strings.ReplaceAll(name, "-", "_")].(map[string]any)
		if !ok {
			t.Fatalf("no section of %s", name)
		}
		ports := map[string]int32{}
		for _, p := range m.pods[name].Spec.Containers[0].Ports {
			ports[p.Name] = p.ContainerPort
			listener, _ := section[p.Name].(map[string]any)
			if want := "0.0.0.0:" + strconv.Itoa(int(p.ContainerPort)); listener["listen"] != want {
				t.Errorf("%s: %s listens on %v, the container's port is %s", name, p.Name, listener["listen"], want)
			}
		}
		if len(m.services[name].Spec.Ports) != len(ports) {
			t.Errorf("%s: service ports %+v", name, m.services[name].Spec.Ports)
		}
		for _, p := range m.services[name].Spec.Ports {
			if _, ok := ports[p.TargetPort.String()]; !ok {
				t.Errorf("%s: the service points to port %s", name, p.TargetPort.String())
			}
		}
	}
}

// Static group membership needs a name that is the pod's own and outlives it.
func TestGroupMembersHaveStableNames(t *testing.T) {
	m := mustRender(t, least(t))
	for _, name := range []string{"stream-processor", "alert-router", "cold-path-writer"} {
		if m.sets[name] == nil {
			t.Errorf("%s is no StatefulSet", name)
			continue
		}
		want := "TOCSIN_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_INSTANCE_ID"
		i := slices.IndexFunc(m.pods[name].Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == want })
		if i < 0 || m.pods[name].Spec.Containers[0].Env[i].ValueFrom.FieldRef.FieldPath != "metadata.name" {
			t.Errorf("%s: no %s from the pod's name", name, want)
		}
	}
	if claims := m.sets["alert-router"].Spec.VolumeClaimTemplates; len(claims) != 1 {
		t.Errorf("alert-router's silences would be lost with its pod: claims %+v", claims)
	}
}

func TestScaling(t *testing.T) {
	m := mustRender(t, least(t))
	if h := m.hpas["ingest-gateway"]; h == nil || h.Spec.MaxReplicas != 8 || h.Spec.ScaleTargetRef.Name != "t-tocsin-ingest-gateway" {
		t.Errorf("ingest-gateway: %+v", h)
	}
	if m.deploys["ingest-gateway"].Spec.Replicas != nil {
		t.Error("an upgrade would undo what the autoscaler decided")
	}
	if len(m.scaled) != 0 {
		t.Errorf("KEDA objects without being asked for: %d", len(m.scaled))
	}

	m = mustRender(t, least(t)+"  stream-processor: {autoscaling: {mode: lag}}\n")
	so := m.scaled["stream-processor"]
	if so == nil || m.hpas["stream-processor"] != nil || m.sets["stream-processor"].Spec.Replicas != nil {
		t.Fatalf("stream-processor on lag: %+v", so)
	}
	if so.Spec.ScaleTargetRef.Kind != "StatefulSet" || *so.Spec.MaxReplicaCount != 12 || so.Spec.Triggers[0].Type != "kafka" {
		t.Errorf("scaled object: %+v", so.Spec)
	}
	md := so.Spec.Triggers[0].Metadata
	if md["topic"] != "telemetry.frames.v1" || md["consumerGroup"] != "stream-processor" || md["lagThreshold"] != "5000" || md["bootstrapServers"] != "kafka:9092" {
		t.Errorf("trigger: %v", md)
	}
}

func TestPolicyNamesBothDirections(t *testing.T) {
	m := mustRender(t, least(t)+`
networkPolicy:
  ingressFrom:
    - ipBlock: {cidr: 10.1.0.0/16}
  extraEgress:
    - to: [{ipBlock: {cidr: 10.2.0.0/16}}]
`)
	for name, p := range m.policies {
		if len(p.Spec.PolicyTypes) != 2 || len(p.Spec.Ingress) != 1 || len(p.Spec.Ingress[0].From) != 2 || len(p.Spec.Egress) != 3 {
			t.Errorf("%s: %+v", name, p.Spec)
		}
	}
	if m := mustRender(t, least(t)+"\nnetworkPolicy: {enabled: false}\npodDisruptionBudget: {enabled: false}\n"); len(m.policies)+len(m.budgets) != 0 {
		t.Error("switched off and still there")
	}
}

func TestRoutingComesFromASecret(t *testing.T) {
	m := mustRender(t, least(t)+"\nalertRouting: {existingSecret: routing}\n")
	live, _ := m.config["realtime_api"].(map[string]any)
	if backends, _ := live["backends"].(map[string]any); backends["tuning_bench"] != "http://t-tocsin-tuning-bench:8088" || backends["stream_processor"] != "http://t-tocsin-stream-processor:8082" {
		t.Errorf("the page's backends are %v", backends)
	}
	router, _ := m.config["alert_router"].(map[string]any)
	if router["live_url"] != "http://t-tocsin-realtime-api:8080" {
		t.Errorf("pages get their pictures from %v", router["live_url"])
	}
	if router["routing_file"] != "/etc/tocsin/routing/routing.yml" {
		t.Errorf("alert_router: %v", router)
	}
	for name, pod := range m.pods {
		mounted := slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == "routing" })
		if mounted != (name == "alert-router") {
			t.Errorf("%s has the receivers' secrets: %t", name, mounted)
		}
	}
}

func TestServicesCanBeLeftOut(t *testing.T) {
	m := mustRender(t, "config: {realtime_api: {auth: {allow_anonymous: true}}}\nservices: {ingest-gateway: {enabled: false}, historical-api: {enabled: false}, model-trainer: {enabled: false}, tuning-bench: {enabled: false}}")
	if _, there := m.pods["ingest-gateway"]; there || len(m.services) != 4 || len(m.hpas) != 1 {
		t.Errorf("workloads %q", slices.Sorted(maps.Keys(m.pods)))
	}
}

// withIceberg is least with the Iceberg tables, which are off by default.
func withIceberg(t *testing.T) string {
	return strings.Replace(least(t), "services:\n", `  iceberg_committer:
    iceberg: {catalog: "postgres://tocsin:${ICEBERG_PASSWORD}@postgres/tocsin"}
services:
  iceberg-committer:
    enabled: true
    env:
      - name: ICEBERG_PASSWORD
        valueFrom:
          secretKeyRef: {name: iceberg, key: password}
`, 1)
}

func TestIcebergIsAskedFor(t *testing.T) {
	const name = "iceberg-committer"
	m := mustRender(t, least(t))
	if _, there := m.config["iceberg_committer"]; there || m.deploys[name] != nil {
		t.Error("there without being asked for")
	}
	m = mustRender(t, withIceberg(t))
	section, _ := m.config["iceberg_committer"].(map[string]any)
	listener, _ := section["http"].(map[string]any)
	pod, there := m.pods[name]
	if !there || m.services[name] == nil || m.policies[name] == nil || listener["listen"] != "0.0.0.0:8089" || pod.Spec.Containers[0].Ports[0].ContainerPort != 8089 {
		t.Errorf("section %v, pod %+v", section, pod.Spec)
	}
	checkMounts(t, name, pod.Spec, pod.Spec.Containers[0])
}

// What cannot work is refused before it reaches a cluster, and the reason is said.
func TestRefused(t *testing.T) {
	for reason, values := range map[string]string{
		"list the gateways":             "",
		"list the clients":              "config: {ingest_gateway: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}}",
		"list the people who may ask":   "config: {ingest_gateway: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}, tuning_bench: {auth: {allow_anonymous: true}}}",
		"list the people who may look":  "config: {ingest_gateway: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}, tuning_bench: {auth: {allow_anonymous: true}}}",
		"13 replicas, but only 12":      "config: {ingest_gateway: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}, tuning_bench: {auth: {allow_anonymous: true}}}\nservices: {stream-processor: {replicas: 13}}",
		"min 9 is more than max 8":      "config: {ingest_gateway: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}, tuning_bench: {auth: {allow_anonymous: true}}}\nservices: {ingest-gateway: {autoscaling: {min: 9}}}",
		"needs group, topic":            "config: {ingest_gateway: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}, tuning_bench: {auth: {allow_anonymous: true}}}\nservices: {realtime-api: {autoscaling: {mode: lag}}}",
		"iceberg.catalog is empty":      "config: {ingest_gateway: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}, tuning_bench: {auth: {allow_anonymous: true}}}\nservices: {iceberg-committer: {enabled: true}}",
		"list the people who may try":   "config: {ingest_gateway: {auth: {allow_anonymous: true}}, historical_api: {auth: {allow_anonymous: true}}, realtime_api: {auth: {allow_anonymous: true}}, model_trainer: {auth: {allow_anonymous: true}}}",
		"'replica' not allowed":         "services: {stream-processor: {replica: 3}}",
		"'networkPolicies' not allowed": "networkPolicies: {}",
		"'steam_processor' not allowed": "config: {steam_processor: {}}",
		"/services/realtime-api/kind":   "services: {realtime-api: {kind: DaemonSet}}",
		"/config/kafka/brokers":         "config: {kafka: {brokers: []}}",
		"/image/tag":                    "image: {tag: latest}",
	} {
		_, err := render(t, values)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s\nerror %v, want one that says %q", values, err, reason)
		}
	}
}

// The real reader of the configuration has the last word.
func TestConfigurationIsValid(t *testing.T) {
	tocsin, err := filepath.Abs("../../bin/tocsin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tocsin); err != nil {
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(err)
		}
		t.Skip("NOT PROVEN HERE, bin/tocsin is missing (make build)")
	}
	for what, values := range map[string]string{"least": least(t), "Iceberg": withIceberg(t)} {
		b, err := sigsyaml.Marshal(mustRender(t, values+"\nalertRouting: {existingSecret: routing}\n").config)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "tocsin.yaml")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), tocsin, "validate", "--config", file)
		cmd.Env = append(os.Environ(), "GATEWAY_LINE_1=0123456789abcdef", "TRAINER_ANALYSTS=0123456789abcdef", "HISTORY_ANALYSTS=0123456789abcdef", "ICEBERG_PASSWORD=x")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}

func TestMonitoringIsWhole(t *testing.T) {
	objects, err := render(t, least(t))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, o := range objects {
		m, ok := o.(*corev1.ConfigMap)
		if !ok {
			continue
		}
		size := 0
		for name, text := range m.Data {
			size += len(name) + len(text)
		}
		if size > 1<<20 {
			t.Errorf("%s holds %d bytes; Kubernetes takes 1 MiB", m.Name, size)
		}
		switch m.Name {
		case "t-tocsin-dashboards":
			found++
			if m.Labels["grafana_dashboard"] != "1" || len(m.Data) < 7 {
				t.Errorf("dashboards: %d files, labels %v", len(m.Data), m.Labels)
			}
			for name, text := range m.Data {
				var doc struct{ UID string }
				if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.UID+".json" != name {
					t.Errorf("%s has uid %q: %v", name, doc.UID, err)
				}
			}
		case "t-tocsin-rules":
			found++
			if !strings.Contains(m.Data["health.yaml"], "alert: ServiceDown") {
				t.Errorf("rules: %.100s", m.Data["health.yaml"])
			}
		}
	}
	if found != 2 {
		t.Errorf("%d of dashboards and rules were rendered", found)
	}
	if objects, err = render(t, least(t)+"\nmonitoring: {dashboards: false, rules: false}\n"); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if strings.HasSuffix(o.GetName(), "-rules") || strings.HasSuffix(o.GetName(), "-dashboards") {
			t.Errorf("%s was rendered", o.GetName())
		}
	}
}
