package stack

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

//go:embed kafka-pom.xml
var kafkaPOM []byte

//go:embed kafka-log4j2.properties
var kafkaLogging []byte

const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

func brokerName(node int) string { return fmt.Sprintf("kafka-%d", node) }

// kafkaBroker is one node that is broker and controller in one process.
func (s *Stack) kafkaBroker(node int) *component {
	name := brokerName(node)
	return &component{
		name:    name,
		groups:  []string{GroupKafka, GroupInfra},
		needs:   []string{GroupKafka}, // all brokers or none: one of three has no quorum
		ports:   append([]string{name, name + "-controller"}, s.listenerPorts(node)...),
		missing: s.kafkaMissing,
		prepare: func(ctx context.Context) (command, error) { return s.prepareKafka(ctx, node) },
		healthy: func(ctx context.Context) error { return s.kafkaHealthy(ctx, node) },
		// A clean stop hands leadership over and writes the index checkpoints.
		stopTimeout: 90 * time.Second,
		stranded:    s.noQuorum,
	}
}

// noQuorum says that no controller can be elected among the processes that are left. A broker that is asked to stop then waits five minutes for one, to hand its partitions over
// (Kafka 4.3.1, BrokerServer.shutdown): so does often the last of several that are stopped together. Its log is whole either way, and is read through at the next start.
func (s *Stack) noQuorum() bool {
	left := 0
	for i := range s.set.Brokers {
		if r, err := s.lookup(brokerName(i + 1)); err == nil && r.alive() {
			left++
		}
	}
	return left <= s.set.Brokers/2
}

func (s *Stack) kafkaMissing() error {
	if _, ok := findProgram("java"); !ok {
		return &MissingError{"kafka", "Java 17 or newer", "apt-get install -y default-jre-headless"}
	}
	if s.haveJars() {
		return nil
	}
	if _, ok := findProgram("mvn"); !ok {
		return &MissingError{"kafka", "Maven (it fetches Kafka's jars once)", "apt-get install -y maven"}
	}
	return nil
}

// The jars are shared by all stacks of the repository.
func (s *Stack) kafkaDir() string { return filepath.Join(s.opts.Repo, ".stack", "kafka") }
func (s *Stack) jarDir() string   { return filepath.Join(s.kafkaDir(), "libs") }

func jarStamp() string {
	sum := sha256.Sum256(kafkaPOM)
	return hex.EncodeToString(sum[:])
}

func (s *Stack) haveJars() bool {
	b, err := os.ReadFile(filepath.Join(s.jarDir(), "stamp"))
	return err == nil && string(b) == jarStamp()
}

// Fetch downloads what Up would download: Kafka's jars.
func (s *Stack) Fetch(ctx context.Context) error {
	if err := s.kafkaMissing(); err != nil {
		return err
	}
	return s.fetchJars(ctx)
}

// fetchJars downloads Kafka from Maven Central (44 MB) unless this version is there.
func (s *Stack) fetchJars(ctx context.Context) error {
	shared := &Stack{opts: Options{Dir: s.kafkaDir()}}
	release, err := shared.lock(ctx, "jars")
	if err != nil {
		return err
	}
	defer release()
	if s.haveJars() {
		return nil
	}
	s.say("%-18s fetching Kafka's jars from Maven Central", "kafka")
	pom, tmp := filepath.Join(s.kafkaDir(), "pom.xml"), s.jarDir()+".new"
	if err := errors.Join(writeFile(pom, kafkaPOM, 0o644), os.RemoveAll(tmp)); err != nil {
		return err
	}
	//nolint:gosec // a fixed command
	out, err := exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", pom, copyDependencies,
		"-DincludeScope=runtime", "-DoutputDirectory="+tmp).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mvn %s: %w\n%s", copyDependencies, err, out)
	}
	if err := writeFile(filepath.Join(tmp, "stamp"), []byte(jarStamp()), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(s.jarDir()); err != nil {
		return err
	}
	return os.Rename(tmp, s.jarDir())
}

func (s *Stack) prepareKafka(ctx context.Context, node int) (command, error) {
	if err := s.fetchJars(ctx); err != nil {
		return command{}, err
	}
	name := brokerName(node)
	properties, logging := s.confFile(name+".properties"), s.confFile("kafka-log4j2.properties")
	if err := errors.Join(
		writeFile(properties, []byte(s.KafkaProperties(node)), 0o644),
		writeFile(logging, kafkaLogging, 0o644),
	); err != nil {
		return command{}, err
	}
	java, _ := findProgram("java")
	jvm := []string{
		"-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile=" + logging, "-cp", filepath.Join(s.jarDir(), "*"),
	}
	if _, err := os.Stat(filepath.Join(s.dataDir(name), "meta.properties")); errors.Is(err, os.ErrNotExist) {
		args := append([]string{"-XX:TieredStopAtLevel=1"}, jvm...)
		args = append(args, "kafka.tools.StorageTool", "format", "--cluster-id", s.set.ClusterID, "--config", properties)
		if out, err := exec.CommandContext(ctx, java, args...).CombinedOutput(); err != nil { //nolint:gosec // a fixed command
			return command{}, fmt.Errorf("format storage: %w\n%s", err, out)
		}
	} else if err != nil {
		return command{}, err
	}
	return command{path: java, args: append(jvm, "kafka.Kafka", properties)}, nil
}

// KafkaProperties is a node's configuration. Where it departs from Kafka's defaults, it says why; docker-compose.yml and
// a production cluster want the same where the line is not about being small.
func (s *Stack) KafkaProperties(node int) string {
	name := brokerName(node)
	voters := make([]string, s.set.Brokers)
	for i := range voters {
		voters[i] = fmt.Sprintf("%d@%s", i+1, s.Addr(brokerName(i+1)+"-controller"))
	}
	replication, inSync := 1, 1
	if s.set.Brokers >= 3 {
		replication, inSync = 3, 2
	}
	listeners, advertised, protocols := s.linkListeners(node)
	text := fmt.Sprintf(`# Generated by deploy/local.
process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
listeners=PLAINTEXT://%[3]s,CONTROLLER://%[4]s%[8]s
advertised.listeners=PLAINTEXT://%[3]s%[9]s
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT%[10]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=%[5]s
num.partitions=12
default.replication.factor=%[6]d
min.insync.replicas=%[7]d
offsets.topic.replication.factor=%[6]d
transaction.state.log.replication.factor=%[6]d
transaction.state.log.min.isr=%[7]d
share.coordinator.state.topic.replication.factor=%[6]d
share.coordinator.state.topic.min.isr=%[7]d
# Services make their topics, with the right configuration; a misspelt name must fail.
auto.create.topics.enable=false
# Small: quick to create and to load.
offsets.topic.num.partitions=16
transaction.state.log.num.partitions=16
# A test's group has its members when it has its first.
group.initial.rebalance.delay.ms=0
# A killed member's partitions and open transaction must not hold the others for longer than the promised recovery.
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=10000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=2000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# The controller takes a broker's new life only when the old one's session is over: 9 s by default after each kill -9.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.retention.hours=168
`, node, strings.Join(voters, ","), s.Addr(name), s.Addr(name+"-controller"), s.dataDir(name), replication, inSync,
		listeners, advertised, protocols)
	for _, key := range slices.Sorted(maps.Keys(s.opts.KafkaConfig)) {
		text += key + "=" + s.opts.KafkaConfig[key] + "\n" // of two lines with one key the last counts
	}
	return text
}

// kafkaHealthy wants this very broker to answer, to know a controller, and to be registered in the cluster: what the
// controller knows then, topics can be placed on.
func (s *Stack) kafkaHealthy(ctx context.Context, node int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addr(brokerName(node))), kgo.DialTimeout(time.Second), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; nil would be all
	resp, err := req.RequestWith(ctx, cl.SeedBrokers()[0])
	if err != nil {
		return err
	}
	registered := slices.ContainsFunc(resp.Brokers, func(b kmsg.MetadataResponseBroker) bool { return int(b.NodeID) == node })
	if resp.ControllerID < 0 || !registered {
		return fmt.Errorf("controller %d, broker %d registered: %t", resp.ControllerID, node, registered)
	}
	return nil
}
