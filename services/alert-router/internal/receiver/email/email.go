// Package email sends pages by SMTP: HTML with a picture of the sensor, and the same as plain text. MIME and SMTP are github.com/wneessen/go-mail's.
package email

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	mail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// Config of one integration. The fields are those of Alertmanager's email_configs.
type Config struct {
	// To are the recipients; each gets a message, and links, of its own.
	To   []*netmail.Address
	From *netmail.Address
	// Hello is what we call ourselves; empty: localhost.
	Hello string
	// Host and Port of the server.
	Host, Port string
	// Username; empty: no authentication. Password is for PLAIN, LOGIN and SCRAM, Secret for CRAM-MD5; Identity for PLAIN.
	Username, Identity string
	Password, Secret   receiver.Secret
	// Header adds headers of fixed text.
	Header map[string]string
	// RequireTLS refuses to send over a connection that STARTTLS did not secure. ImplicitTLS begins with TLS (port 465).
	RequireTLS, ImplicitTLS bool
	TLS                     *tls.Config // nil: the system's
	// Dial reaches the server; nil: the operating system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Zone that pictures tell times in; nil: UTC.
	Zone *time.Location
	// Series is what a sensor did lately, for the picture of an alert that brings none; nil: no picture then. It is given seriesTime.
	Series func(ctx context.Context, equipmentID, sensor string) []notification.Point
}

// seriesTime is how long a page may be held up for its picture.
const seriesTime = 700 * time.Millisecond

// timeout of one command and its answer.
const timeout = 15 * time.Second

// reserved headers are ours.
var reserved = map[string]bool{
	"From": true, "To": true, "Cc": true, "Bcc": true, "Subject": true, "Date": true, "Message-Id": true, "Mime-Version": true, "Content-Type": true,
	"Content-Transfer-Encoding": true, "References": true, "In-Reply-To": true, "Return-Path": true, "Sender": true,
}

// Receiver is a notification.Receiver.
type Receiver struct {
	cfg      Config
	port     int
	composer receiver.Composer
	once     receiver.Once
}

// New checks the configuration.
func New(cfg Config, composer receiver.Composer) (*Receiver, error) {
	port, err := strconv.Atoi(cfg.Port)
	switch {
	case err != nil || port < 1 || port > 65535:
		return nil, fmt.Errorf("smarthost: port %q", cfg.Port)
	case cfg.Host == "":
		return nil, errors.New("smarthost: missing")
	case cfg.From == nil:
		return nil, errors.New("from: missing")
	case len(cfg.To) == 0:
		return nil, errors.New("to: missing")
	case cfg.Username != "" && cfg.Password == nil && cfg.Secret == nil:
		return nil, errors.New("auth_password: missing")
	}
	for _, a := range append([]*netmail.Address{cfg.From}, cfg.To...) {
		if message.Clean(a.Address, 320) != a.Address || strings.ContainsAny(a.Address, "<> ") {
			return nil, errors.New("an address holds characters that none can have")
		}
	}
	for name, value := range cfg.Header {
		switch {
		case reserved[textproto.CanonicalMIMEHeaderKey(name)]:
			return nil, fmt.Errorf("headers: %s is set by the page", name)
		case !token(name) || message.Clean(value, 998) != value:
			return nil, fmt.Errorf("headers: %q cannot be sent", name)
		}
	}
	return &Receiver{cfg: cfg, port: port, composer: composer}, nil
}

func token(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// Send implements notification.Receiver: one connection, a message for each recipient. When it is tried again because one was refused, the others get no second.
func (r *Receiver) Send(ctx context.Context, n notification.Notification) error {
	n.Alerts = r.drawn(ctx, n.Alerts)
	var messages []*mail.Msg
	var to []string
	var pictures []message.Picture // the same for all
	for _, a := range r.cfg.To {
		if r.once.Done(n.Key, a.Address) {
			continue
		}
		p := r.composer.Page(n, a.Address)
		if messages == nil {
			pictures = message.Pictures(p, r.cfg.Zone)
		}
		m, err := r.compose(p, a, pictures)
		if err != nil {
			return &notification.Error{Class: notification.Permanent, Reason: "encode", Err: err}
		}
		messages, to = append(messages, m), append(to, a.Address)
	}
	if len(messages) == 0 {
		return nil
	}
	l := &line{dial: r.cfg.Dial}
	c, err := r.client(ctx, l)
	if err != nil {
		return err
	}
	defer l.hangUp()
	conn, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return dialError(ctx, err)
	}
	sendErr := c.SendWithSMTPClient(conn, messages...)
	_ = c.CloseWithSMTPClient(conn) // QUIT; what was taken is taken
	var failed []error
	for i, m := range messages {
		switch {
		case m.IsDelivered():
			r.once.Mark(n.Key, to[i])
		case m.HasSendError():
			failed = append(failed, sent(ctx, m.SendError()))
		case sendErr != nil:
			failed = append(failed, sent(ctx, sendErr))
		}
	}
	return receiver.Worst(failed)
}

// maxDrawn is how many alerts of a page have a picture fetched for them.
const maxDrawn = 3

// drawn is the alerts with the series that pictures are drawn of.
func (r *Receiver) drawn(ctx context.Context, alerts []notification.Alert) []notification.Alert {
	if r.cfg.Series == nil {
		return alerts
	}
	ctx, cancel := context.WithTimeout(ctx, seriesTime)
	defer cancel()
	out := slices.Clone(alerts) // shared with other receivers
	for i := range out[:min(len(out), maxDrawn)] {
		a := &out[i]
		if len(a.Evidence) == 0 || len(a.Evidence[0].Series) > 0 || a.Evidence[0].Statistic == "stddev" || ctx.Err() != nil {
			continue
		}
		a.Evidence = slices.Clone(a.Evidence)
		a.Evidence[0].Series = r.cfg.Series(ctx, a.EquipmentID, a.Evidence[0].Sensor)
	}
	return out
}

func (r *Receiver) client(ctx context.Context, l *line) (*mail.Client, error) {
	cfg := &r.cfg
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		secure = cfg.TLS.Clone()
	}
	if secure.ServerName == "" {
		secure.ServerName = cfg.Host
	}
	hello := cfg.Hello
	if hello == "" {
		hello = "localhost"
	}
	policy := mail.NoTLS // not asked for, as in Alertmanager; or there already
	if cfg.RequireTLS && !cfg.ImplicitTLS {
		policy = mail.TLSMandatory
	}
	if cfg.ImplicitTLS {
		l.tls = secure
	}
	limit := timeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(end), time.Millisecond))
	}
	options := []mail.Option{
		mail.WithPort(r.port), mail.WithHELO(hello), mail.WithTLSPolicy(policy), mail.WithTLSConfig(secure), mail.WithTimeout(limit), mail.WithoutNoop(),
		mail.WithDialContextFunc(func(dial context.Context, network, address string) (net.Conn, error) {
			return l.call(ctx, dial, network, address)
		}),
	}
	auth, err := r.auth()
	if err != nil {
		return nil, err
	}
	c, err := mail.NewClient(cfg.Host, append(options, auth...)...)
	if err != nil {
		return nil, &notification.Error{Class: notification.Permanent, Reason: "bad_configuration", Err: err}
	}
	return c, nil
}

// line is the connection of one Send. It ends with the Send's context, of which the library's deadlines do not know, and on every error, where the library leaves it open.
type line struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config // to begin with; nil: plain
	conn net.Conn
	stop func() bool
}

func (l *line) call(send, ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.conn, l.stop = conn, context.AfterFunc(send, func() { _ = conn.Close() })
	if l.tls == nil {
		return conn, nil
	}
	over := tls.Client(conn, l.tls)
	if err := over.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return over, nil
}

func (l *line) hangUp() {
	if l.conn != nil {
		l.stop()
		_ = l.conn.Close()
	}
}

// auth: with a secret CRAM-MD5, with an identity PLAIN, else the best that the server offers. PLAIN and LOGIN only over TLS, or to this machine.
func (r *Receiver) auth() ([]mail.Option, error) {
	cfg := &r.cfg
	switch {
	case cfg.Username == "":
		return nil, nil
	case cfg.Password == nil:
		secret, err := cfg.Secret.Get("auth_secret")
		if err != nil {
			return nil, err
		}
		return []mail.Option{mail.WithSMTPAuth(mail.SMTPAuthCramMD5), mail.WithUsername(cfg.Username), mail.WithPassword(secret)}, nil
	}
	password, err := cfg.Password.Get("auth_password")
	if err != nil {
		return nil, err
	}
	if cfg.Identity != "" {
		return []mail.Option{mail.WithSMTPAuthCustom(smtp.PlainAuth(cfg.Identity, cfg.Username, password, cfg.Host, cfg.ImplicitTLS))}, nil
	}
	kind := mail.SMTPAuthAutoDiscover
	if cfg.ImplicitTLS {
		kind = mail.SMTPAuthPlainNoEnc // the library does not see that the connection is secure already
	}
	return []mail.Option{mail.WithSMTPAuth(kind), mail.WithUsername(cfg.Username), mail.WithPassword(password)}, nil
}

// compose makes the message of one recipient. Each value that comes from an alert is one clean line (message.Clean), and the library encodes what is not ASCII: no
// header can be begun or ended by it.
func (r *Receiver) compose(p *message.Page, to *netmail.Address, pictures []message.Picture) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	m.FromMailAddress(r.cfg.From)
	m.ToMailAddress(to)
	m.Subject(p.Headline)
	m.SetDateWithValue(p.At)
	_, domain, _ := strings.Cut(r.cfg.From.Address, "@")
	m.SetMessageIDWithValue(identity(p.Key+"\x00"+to.Address) + "@" + domain)
	thread := "<" + identity(p.GroupKey) + ".group@" + domain + ">"
	m.SetGenHeader("In-Reply-To", thread)
	m.SetGenHeader("References", thread)
	m.SetGenHeader("Auto-Submitted", "auto-generated") // no out-of-office answers (RFC 3834)
	m.SetGenHeader("X-Auto-Response-Suppress", "All")
	m.SetGenHeader("X-Mailer", receiver.UserAgent)
	m.SetGenHeader("X-Tocsin-Key", p.Key)
	m.SetGenHeader("X-Tocsin-Severity", p.Severity)
	if p.Severity == "critical" && !p.Over() {
		m.SetImportance(mail.ImportanceHigh)
	}
	for name, value := range r.cfg.Header {
		m.SetGenHeader(mail.Header(textproto.CanonicalMIMEHeaderKey(name)), value)
	}
	html, err := message.HTML(p, pictures)
	if err != nil {
		return nil, err
	}
	m.SetBodyString(mail.TypeTextPlain, message.Text(p))
	m.AddAlternativeString(mail.TypeTextHTML, string(html))
	for i, pic := range pictures {
		if err := m.EmbedReader(fmt.Sprintf("chart-%d.png", i+1), bytes.NewReader(pic.PNG), mail.WithFileContentID("<"+pic.ContentID+">"), mail.WithFileContentType("image/png")); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func identity(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:16])
}

// dialError: nothing was sent yet.
func dialError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	var code *textproto.Error
	if errors.As(err, &code) {
		return answered(code.Code, err)
	}
	e := receiver.Failed(err, false)
	if e.Reason == "network" && strings.Contains(strings.ToLower(err.Error()), "auth") {
		e.Reason = "unauthorized" // no mechanism that both sides know
	}
	return e
}

// sent classifies what became of a message that the server was asked to take.
func sent(ctx context.Context, err error) error {
	var se *mail.SendError
	if !errors.As(err, &se) {
		return dialError(ctx, err)
	}
	if code := se.ErrorCode(); code >= 400 {
		return answered(code, errors.New(message.Clean(se.Error(), 300)))
	}
	switch se.Reason {
	case mail.ErrGetSender, mail.ErrGetRcpts, mail.ErrNoUnencoded:
		return &notification.Error{Class: notification.Permanent, Reason: "encode", Err: errors.New(message.Clean(se.Error(), 300))}
	}
	e := &notification.Error{Class: notification.Retryable, Reason: "network", Err: errors.New(message.Clean(se.Error(), 300))}
	e.MayHaveArrived = se.Reason == mail.ErrSMTPDataClose // all was sent, and no answer came
	if ctx.Err() != nil {
		e.Reason = "timeout"
	}
	return e
}

// answered: of SMTP's codes 4xx say "later" and 5xx "no"; 530 and 535 are about who we are.
func answered(code int, err error) error {
	e := &notification.Error{Class: notification.Permanent, Reason: "refused", Err: errors.New(message.Clean(err.Error(), 300))}
	switch {
	case code == 530 || code == 534 || code == 535 || code == 538:
		e.Reason = "unauthorized"
	case code >= 400 && code < 500:
		e.Class, e.Reason = notification.Retryable, "server_error"
	}
	return e
}
