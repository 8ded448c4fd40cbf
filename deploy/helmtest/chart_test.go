// Package helmtest renders the chart with Helm's own code and decodes what comes out strictly into Kubernetes' and KEDA's types. A
// module of its own: those are large, and nothing else needs them.
package helmtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// chartDir goes through a link, so that `go test` sees the chart change and does not answer from its cache.
const chartDir = "testdata/chart"

// object is any decoded document.
type object = metav1.Object

func kinds() map[string]func() object {
	return map[string]func() object{
		"v1/ConfigMap":                           func() object { return &corev1.ConfigMap{} },
		"v1/Service":                             func() object { return &corev1.Service{} },
		"v1/ServiceAccount":                      func() object { return &corev1.ServiceAccount{} },
		"apps/v1/Deployment":                     func() object { return &appsv1.Deployment{} },
		"apps/v1/StatefulSet":                    func() object { return &appsv1.StatefulSet{} },
		"policy/v1/PodDisruptionBudget":          func() object { return &policyv1.PodDisruptionBudget{} },
		"autoscaling/v2/HorizontalPodAutoscaler": func() object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		"networking.k8s.io/v1/NetworkPolicy":     func() object { return &networkingv1.NetworkPolicy{} },
		"keda.sh/v1alpha1/ScaledObject":          func() object { return &kedav1alpha1.ScaledObject{} },
	}
}

// render gives what `helm template` would, decoded: an unknown field is an error.
func render(t *testing.T, values string) ([]object, error) {
	t.Helper()
	ch, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	var user map[string]any
	if err := sigsyaml.Unmarshal([]byte(values), &user); err != nil {
		t.Fatal(err)
	}
	release := common.ReleaseOptions{Name: "t", Namespace: "factory", IsInstall: true, Revision: 1}
	vals, err := util.ToRenderValues(ch, user, release, common.DefaultCapabilities.Copy())
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(ch, vals)
	if err != nil {
		return nil, err
	}
	var out []object
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") || strings.HasPrefix(name, "_") {
			continue
		}
		docs, err := decode(files[name])
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, files[name])
		}
		out = append(out, docs...)
	}
	return out, nil
}

func decode(file string) ([]object, error) {
	var out []object
	r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(file)))
	for {
		doc, err := r.Read()
		if err == io.EOF { //nolint:errorlint // documented to be bare
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		var head metav1.TypeMeta
		if err := sigsyaml.Unmarshal(doc, &head); err != nil {
			return nil, err
		}
		if head.Kind == "" {
			continue // comments only
		}
		fresh, ok := kinds()[head.APIVersion+"/"+head.Kind]
		if !ok {
			return nil, fmt.Errorf("unexpected kind %s/%s", head.APIVersion, head.Kind)
		}
		o := fresh()
		if err := strict(doc, o); err != nil {
			return nil, fmt.Errorf("%s: %w", head.Kind, err)
		}
		out = append(out, o)
	}
}

// strict decodes as an API server does: unlike encoding/json it takes mountpath for an unknown field, not for mountPath.
func strict(doc []byte, into any) error {
	b, err := sigsyaml.YAMLToJSONStrict(doc)
	if err != nil {
		return err
	}
	wrong, err := json.UnmarshalStrict(b, into)
	return errors.Join(append(wrong, err)...)
}
