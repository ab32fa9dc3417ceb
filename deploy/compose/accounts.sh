# shellcheck shell=bash
# The image of MySQL reads this file once, after it has created the database. The account that
# serves may change rows, and no table.
password=$(</run/secrets/db_password)
password=${password//\\/\\\\}
password=${password//\'/\'\'}
docker_process_sql <<SQL
CREATE USER 'otpd'@'%' IDENTIFIED BY '$password';
GRANT SELECT, INSERT, UPDATE, DELETE ON \`otpd\`.* TO 'otpd'@'%';
SQL
unset password
