package uplink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tidemill/tidemill/deploy/await"
)

// A keeper asks every minute, twice.
type keeper struct{ firsts, others, answers []string }

func (k *keeper) Ask(first bool) ([]byte, time.Duration) {
	if first {
		k.firsts = append(k.firsts, "q")
		return []byte("first"), time.Minute
	}
	if k.others = append(k.others, "q"); len(k.others) > 1 {
		return nil, time.Minute
	}
	return []byte("again"), time.Minute
}

func (k *keeper) Answer(p []byte, from, until time.Time) {
	if now := time.Now(); from.After(now) || until.Before(now) {
		p = []byte("of a server whose certificate is not valid")
	}
	k.answers = append(k.answers, string(p))
}

// A bridge that grants the answers is asked for the time and gets batches as they are;
// one that does not is not asked, and gets them in the old form.
func TestTimeIsAsked(t *testing.T) {
	for _, grants := range []bool{true, false} {
		t.Run(fmt.Sprint(grants), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var came []string
				b, ca := newBroker(t, func(k *conn) {
					k.accept(0)
					for {
						p, err := packets.ReadPacket(k)
						if err != nil {
							return
						}
						switch p := p.(type) {
						case *packets.SubscribePacket:
							a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
							a.MessageID = p.MessageID
							for _, topic := range p.Topics {
								code := byte(0x80)
								if topic == "notices" || topic == "time/told" && grants {
									code = 0
								}
								a.ReturnCodes = append(a.ReturnCodes, code)
							}
							k.write(a)
						case *packets.PublishPacket:
							came = append(came, p.TopicName+" "+string(p.Payload))
							k.puback(p.MessageID)
							if p.TopicName == "time" {
								m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
								m.TopicName, m.Payload = "time/told", append([]byte("to "), p.Payload...)
								k.write(m)
							}
						case *packets.PingreqPacket:
							k.write(packets.NewControlPacket(packets.Pingresp))
						}
					}
				})
				o := b.options(t, ca)
				keep := &keeper{}
				o.NoticeTopic, o.Notice = "notices", func([]byte) {}
				o.TimeTopic, o.TimeAnswerTopic, o.Time = "time", "time/told", keep
				o.Plain = func(p []byte) ([]byte, error) {
					if string(p) == "2" {
						return nil, errors.New("damaged")
					}
					return append([]byte("plain "), p...), nil
				}
				q := newFifo(3)
				u, stop := start(t, b, q, o)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				damaged := u.Status().Damaged
				stop()
				slices.Sort(came)
				want := []string{"$tidemill/batch 1", "$tidemill/batch 2", "$tidemill/batch 3", "time again",
					"time first"}
				answers, left := []string{"to first", "to again"}, uint64(0)
				if !grants {
					want, answers, left = []string{"$tidemill/batch plain 1", "$tidemill/batch plain 3"}, nil, 1
				}
				if !slices.Equal(came, want) || !slices.Equal(keep.answers, answers) ||
					q.left() != 0 || damaged != left ||
					len(keep.firsts) != len(answers)/2 {
					t.Errorf("came %q, answers %q, %d left, %d damaged", came, keep.answers, q.left(), damaged)
				}
			})
		})
	}
}

// A handshake that failed is made once more, at once, if who knows the time says so; its
// certificates are checked all the same.
func TestHandshakeIsRepeated(t *testing.T) {
	for name, again := range map[string]bool{"again": true, "not again": false} {
		t.Run(name, func(t *testing.T) {
			b, ca := newBroker(t, func(k *conn) {
				k.accept(0)
				k.answer(func(p *packets.PublishPacket) bool { k.puback(p.MessageID); return true })
			})
			late := farOff.AddDate(-1, 0, 0)
			b.conf.Certificates = []tls.Certificate{ca.issue(t, "broker.test", late, farOff)}
			o := b.options(t, ca)
			o.Dial, o.BackoffMin, o.BackoffMax = b.dialTCP, time.Hour, time.Hour
			var now atomic.Pointer[time.Time]
			now.Store(&longAgo)
			conf := o.TLS
			o.TLS = func() (*tls.Config, error) {
				c, err := conf()
				c.Time = func() time.Time { return *now.Load() }
				return c, err
			}
			b.conf.Time = func() time.Time { return late.AddDate(0, -1, 0) } // for our certificate
			var told atomic.Int32
			o.Retry = func(err error) bool {
				if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
					t.Errorf("told %v", err)
				}
				told.Add(1)
				later := late.Add(time.Hour)
				now.Store(&later)
				return again
			}
			u, stop := start(t, b, newFifo(1), o)
			await.True(t, "an outcome", func() bool { st := u.Status(); return st.Acked == 1 || st.Error != "" })
			st := u.Status()
			stop()
			if told.Load() != 1 || again != (st.Error == "") || !again && st.ErrorKind != KindServerEarly {
				t.Errorf("told %d times, %+v", told.Load(), st)
			}
		})
	}
}
