package deploy_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// objects reads kubernetes.yaml as kubectl does, each document alone, and refuses fields that Kubernetes does not know.
func objects(t *testing.T) (all []runtime.Object) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	f, err := os.Open("kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for documents := yaml.NewYAMLReader(bufio.NewReader(f)); ; {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		object, kind, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("document %d (%v): %v", len(all)+1, kind, err)
		}
		all = append(all, object)
	}
}

// pods are the pods that the file describes, by the kind that makes them.
func pods(t *testing.T) map[string]corev1.PodSpec {
	t.Helper()
	all := map[string]corev1.PodSpec{}
	for _, o := range objects(t) {
		switch o := o.(type) {
		case *batchv1.Job:
			all["Job"] = o.Spec.Template.Spec
		case *appsv1.Deployment:
			all["Deployment"] = o.Spec.Template.Spec
		}
	}
	if len(all) != 2 {
		t.Fatalf("%d pods", len(all))
	}
	return all
}

// TestKubernetesPods: what each pod may do, and what it is given.
func TestKubernetesPods(t *testing.T) {
	for name, pod := range pods(t) {
		if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
			t.Errorf("%s: enableServiceLinks is not false", name)
		}
		if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || *s.RunAsUser != 65532 {
			t.Errorf("%s: does not run as the image's user", name)
		}
		volumes := map[string]bool{}
		for _, v := range pod.Volumes {
			volumes[v.Name] = true
			if v.Secret == nil || v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440 {
				t.Errorf("%s: volume %s is not a secret that only its group reads", name, v.Name)
			}
		}
		for _, c := range pod.Containers {
			if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
				s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || len(s.Capabilities.Drop) != 1 {
				t.Errorf("%s: container %s may more than it must", name, c.Name)
			}
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("%s: container %s mounts %s, which is no volume", name, c.Name, m.Name)
				}
			}
			for _, e := range c.Env {
				if e.Name == "METERD_STORE" && (e.Value != "" || e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil) {
					t.Errorf("%s: the database's URL, which holds a password, is not a reference to a secret", name)
				}
				if e.Name == "METERD_MASTER_KEY_FILE" && !strings.HasPrefix(e.Value, c.VolumeMounts[0].MountPath+"/") {
					t.Errorf("%s: the master key %s is not in the secret's volume", name, e.Value)
				}
			}
		}
	}
}

// TestKubernetes: services and the disruption budget select the nodes, and name ports that they have; probes ask ports
// that the container has; a node is given the time that it takes to drain; no secret stands in the file.
func TestKubernetes(t *testing.T) {
	var deployment *appsv1.Deployment
	all := objects(t)
	for _, o := range all {
		if d, ok := o.(*appsv1.Deployment); ok {
			deployment = d
		}
	}
	template := deployment.Spec.Template
	node := template.Spec.Containers[0]
	ports := map[intstr.IntOrString]bool{}
	for _, p := range node.Ports {
		ports[intstr.FromString(p.Name)] = true
	}
	selects := func(what string, selector map[string]string) {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(template.Labels)) {
			t.Errorf("%s selects %v, and nodes are %v", what, selector, template.Labels)
		}
	}
	selects("the Deployment", deployment.Spec.Selector.MatchLabels)
	services, budgets := 0, 0
	for _, o := range all {
		switch o := o.(type) {
		case *corev1.Service:
			services++
			selects("Service "+o.Name, o.Spec.Selector)
			for _, p := range o.Spec.Ports {
				if !ports[p.TargetPort] {
					t.Errorf("Service %s: a node has no port %s", o.Name, p.TargetPort.String())
				}
			}
		case *policyv1.PodDisruptionBudget:
			budgets++
			selects("the PodDisruptionBudget", o.Spec.Selector.MatchLabels)
		case *corev1.Secret:
			t.Error("a secret stands in the file")
		}
	}
	if services != 2 || budgets != 1 {
		t.Errorf("%d services, %d disruption budgets", services, budgets)
	}
	for name, probe := range map[string]*corev1.Probe{"livez": node.LivenessProbe, "readyz": node.ReadinessProbe, "startup": node.StartupProbe} {
		if path := strings.Replace("/"+name, "startup", "livez", 1); probe == nil || probe.HTTPGet.Path != path || !ports[probe.HTTPGet.Port] {
			t.Errorf("%s: the probe asks %v", name, probe)
		}
	}
	if grace := *template.Spec.TerminationGracePeriodSeconds; grace < 15+20 { // --drain-time, and what meterd gives the last calls
		t.Errorf("a node is killed after %d seconds", grace)
	}
}
