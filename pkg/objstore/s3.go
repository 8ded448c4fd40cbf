package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// S3 is a Bucket in a bucket of an S3 server, under a prefix. An object is one PUT with If-None-Match: *, so the server
// decides which of several writers wins. Requests are tried once: whoever calls has its own retries, and can tell
// a 412 after a lost answer from a stranger's object.
type S3 struct {
	client  *s3.Client
	bucket  string
	prefix  string // "" or ends with a slash
	timeout time.Duration
	http    *http.Client
}

func openS3(ctx context.Context, cfg Config) (*S3, error) {
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(cfg.Region),
		awsconfig.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if cfg.AccessKey != "" {
		load = append(load, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, "")))
	}
	base, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	// The SDK's client holds what the environment says (certificate authorities, proxies); with its transport in a client of
	// our own Close can end the connections.
	sdk, ok := base.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		sdk = awshttp.NewBuildableClient()
	}
	own := &http.Client{
		Transport:     sdk.GetTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client := s3.NewFromConfig(base, func(o *s3.Options) {
		o.HTTPClient = own
		o.UsePathStyle = cfg.PathStyle
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
	})
	bucket, prefix := cfg.s3Location()
	if prefix != "" {
		prefix += "/"
	}
	return &S3{client: client, bucket: bucket, prefix: prefix, timeout: cfg.Timeout, http: own}, nil
}

// Close implements Bucket.
func (b *S3) Close() error {
	b.http.CloseIdleConnections()
	return nil
}

// PutIfAbsent implements Bucket.
func (b *S3) PutIfAbsent(ctx context.Context, key string, data []byte, metadata map[string]string) error {
	if err := errors.Join(ValidateKey(key), validateMetadata(metadata)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:        aws.String(b.bucket),
		Key:           aws.String(b.prefix + key),
		Body:          bytes.NewReader(data),
		ContentLength: aws.Int64(int64(len(data))),
		IfNoneMatch:   aws.String("*"),
		Metadata:      metadata,
	})
	return classify("put", key, err)
}

// Get implements Bucket.
func (b *S3) Get(ctx context.Context, key string, limit int64) ([]byte, Info, error) {
	if err := ValidateKey(key); err != nil {
		return nil, Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(b.bucket), Key: aws.String(b.prefix + key)})
	if err != nil {
		return nil, Info{}, classify("get", key, err)
	}
	defer func() { _ = out.Body.Close() }() // a read body: nothing can be lost
	size := aws.ToInt64(out.ContentLength)
	if limit > 0 && size > limit {
		return nil, Info{}, tooLarge(key, size, limit)
	}
	// The length is the server's word: what is read is bounded by it, what is kept grows with what came.
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(out.Body, size+1))
	if err != nil {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	if n != size {
		return nil, Info{}, fmt.Errorf("get %s: %w: %d of %d bytes", key, io.ErrUnexpectedEOF, n, size)
	}
	return buf.Bytes(), Info{Key: key, Size: size, Modified: aws.ToTime(out.LastModified), Metadata: lower(out.Metadata)}, nil
}

// GetRange implements Bucket.
func (b *S3) GetRange(ctx context.Context, key string, off, length int64) ([]byte, error) {
	if err := errors.Join(ValidateKey(key), validateRange(off, length)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: aws.String(b.bucket), Key: aws.String(b.prefix + key), Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+length-1)),
	})
	if err != nil {
		return nil, classify("get", key, err)
	}
	defer func() { _ = out.Body.Close() }() // a read body: nothing can be lost
	if got := aws.ToInt64(out.ContentLength); got != length {
		return nil, tooShort(key, off, length, off+got)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(out.Body, data); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return data, nil
}

// Head implements Bucket.
func (b *S3) Head(ctx context.Context, key string) (Info, error) {
	if err := ValidateKey(key); err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(b.bucket), Key: aws.String(b.prefix + key)})
	if err != nil {
		return Info{}, classify("head", key, err)
	}
	return Info{Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), Metadata: lower(out.Metadata)}, nil
}

// lower undoes what HTTP libraries on the way may have done to header names.
func lower(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[strings.ToLower(k)] = v
	}
	return out
}

// List implements Bucket.
func (b *S3) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{
			Bucket: aws.String(b.bucket), Prefix: aws.String(b.prefix + prefix),
		})
		for pages.HasMorePages() {
			page, err := b.nextPage(ctx, pages)
			if err != nil {
				yield(Info{}, classify("list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				key := strings.TrimPrefix(aws.ToString(o.Key), b.prefix)
				if ValidateKey(key) != nil {
					continue // a folder marker, or somebody else's: not to be had by Get either
				}
				if !yield(Info{Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

func (b *S3) nextPage(ctx context.Context, pages *s3.ListObjectsV2Paginator) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return pages.NextPage(ctx)
}

// Delete implements Bucket.
func (b *S3) Delete(ctx context.Context, key string) error {
	if err := ValidateKey(key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(b.bucket), Key: aws.String(b.prefix + key)})
	if err = classify("delete", key, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// classify turns the answers that mean something to a caller into the package's errors.
func classify(op, key string, err error) error {
	if err == nil {
		return nil
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil {
		switch resp.HTTPStatusCode() {
		case http.StatusPreconditionFailed:
			return fmt.Errorf("%s %s: %w", op, key, ErrExists)
		case http.StatusConflict:
			return fmt.Errorf("%s %s: %w: %w", op, key, ErrConflict, err)
		case http.StatusNotFound:
			// A missing bucket answers 404 as well; an operator needs to read which.
			return fmt.Errorf("%s %s: %w: %w", op, key, ErrNotFound, err)
		}
	}
	return fmt.Errorf("%s %s: %w", op, key, err)
}
