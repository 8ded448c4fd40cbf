package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Bucket holds the lake.
const Bucket = "tocsin-lake"

// S3Region is what clients must sign for.
const S3Region = "us-east-1"

// s3 is versitygw over a folder.
func (s *Stack) s3() *component {
	const name = "s3"
	const program = "versitygw"
	tools := filepath.Join(s.opts.Repo, "bin", "tools")
	return &component{
		name:    name,
		groups:  []string{GroupInfra},
		ports:   []string{name},
		missing: func() error { return programMissing(name, program, "deploy/tools/install.sh versitygw", tools) },
		prepare: func(context.Context) (command, error) {
			objects := filepath.Join(s.dataDir(name), "buckets")
			if err := os.MkdirAll(objects, 0o755); err != nil {
				return command{}, err
			}
			path, _ := findProgram(program, tools)
			return command{
				path: path,
				args: []string{"--port", s.Addr(name), "--region", S3Region, "--health", "/health", "--quiet", "posix", objects},
				// In the environment: arguments are for all to see.
				env: []string{"ROOT_ACCESS_KEY=" + s.set.S3AccessKey, "ROOT_SECRET_KEY=" + s.set.S3SecretKey},
			}, nil
		},
		healthy: s.httpHealth(name, "/health"),
		after:   s.makeBucket,
	}
}

func (s *Stack) makeBucket(ctx context.Context) error {
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + s.Addr("s3")),
		UsePathStyle: true,
		Region:       S3Region,
		Credentials:  credentials.NewStaticCredentialsProvider(s.set.S3AccessKey, s.set.S3SecretKey, ""),
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(Bucket)})
	var mine *types.BucketAlreadyOwnedByYou
	var exists *types.BucketAlreadyExists
	if err == nil || errors.As(err, &mine) || errors.As(err, &exists) {
		return nil
	}
	return fmt.Errorf("make bucket %s: %w", Bucket, err)
}
