package mutants

const (
	intakeDir   = "services/ingest-gateway/internal/intake/"
	producerDir = "services/ingest-gateway/internal/producer/"
	gatewayPkg  = "services/ingest-gateway"
	// acknowledging are the gateway's tests of when it may say yes.
	acknowledging = "TestNoAcknowledgementWhileKafkaRefuses|TestAnswerWaitsForKafka|TestSilentBroker|TestOrderOfAMachineSurvivesRefusals|TestGoodFramesBesideBadOnesArrive"
)

// gateway breaks the ingest-gateway.
func gateway() []Mutant {
	return []Mutant{
		{
			Name: "gateway-acknowledges-before-kafka",
			Rule: "The gateway answers only after Kafka did.",
			Edits: []Edit{{
				producerDir + "producer.go",
				"\tp.cl.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) {\n\t\tp.records.Add(-1)\n\t\tp.bytes.Add(-size)\n\t\tdone(p.verdict(err, wireSize(r), limit))\n\t})\n",
				"\tp.cl.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) {\n\t\tp.records.Add(-1)\n\t\tp.bytes.Add(-size)\n\t\t_ = p.verdict(err, wireSize(r), limit)\n\t})\n\tdone(nil)\n",
			}},
			Scenarios: []string{"gateway-killed-while-kafka-takes-a-frame"},
			Tests:     []Tests{{gatewayPkg, acknowledging}},
		},
		{
			Name: "gateway-acknowledges-failed-frames-of-a-batch",
			Rule: "Each frame of a batch has its own answer.",
			Edits: []Edit{
				{
					"services/ingest-gateway/internal/grpcreceiver/calls.go",
					"\t\tresp.Results[i] = o.Result()\n",
					"\t\tif i > 0 {\n\t\t\to.Cause = tickets[0].Wait().Cause\n\t\t}\n\t\tresp.Results[i] = o.Result()\n",
				},
				{
					"services/ingest-gateway/internal/httpreceiver/receiver.go",
					"\t\toutcomes[i] = t.Wait()\n",
					"\t\toutcomes[i] = t.Wait()\n\t\toutcomes[i].Cause = outcomes[0].Cause\n",
				},
			},
			Tests: []Tests{{gatewayPkg, acknowledging}},
		},
		{
			Name: "gateway-timeout-is-an-acknowledgement",
			Rule: "The gateway answers only after Kafka did: in doubt the frame is to be sent again.",
			Edits: []Edit{{
				intakeDir + "intake.go",
				"\tt.late.Cause, t.late.RetryAfter = KafkaTimeout, retryKafka\n",
				"\tt.late.Cause, t.late.RetryAfter = Taken, retryKafka\n",
			}},
			Scenarios: []string{"kafka-does-not-answer-gateways"},
			Tests:     []Tests{{gatewayPkg, acknowledging}},
		},
		{
			Name: "gateway-kafka-errors-ignored",
			Rule: "The gateway answers only after Kafka did.",
			Edits: []Edit{{
				intakeDir + "intake.go",
				"\t\t\to.Cause, o.Reason, o.RetryAfter = KafkaAway, producer.ErrUnavailable.Error(), retryKafka\n\t\t}\n",
				"\t\t}\n",
			}},
			Scenarios: []string{"kafka-refuses-frames"},
			Tests:     []Tests{{gatewayPkg, acknowledging}},
		},
		{
			Name: "gateway-retry-reorders-a-machine",
			Rule: "What follows a refused frame of a machine is refused with it, so that the sender's next try does not overtake itself.",
			Edits: []Edit{{
				intakeDir + "session.go",
				"\treturn s.in.submit(ctx, s.who, raw, s)\n",
				"\treturn s.in.submit(ctx, s.who, raw, nil)\n",
			}},
			Tests: []Tests{{gatewayPkg, "TestStreamHoldsBackWhatFollowsALostFrame|TestRequestHoldsBackWhatFollowsARefusedFrame|TestOrderOfAMachineSurvivesRefusals"}},
		},
	}
}
