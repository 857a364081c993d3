-- The platform's contract: names of devices and quantities, one row for each reading, hour, day. Whatever a query does
-- not select costs it nothing: views are plain, and what needs a look elsewhere is a function in the list of columns.

-- Of when each placement is: until the next one of the same device. By a look for that one, so that who asks for a zone
-- or a device reads its placements alone.
CREATE VIEW iot_service.device_locations AS
SELECT p.device_id, p.location_id, z.site, z.zone, p.position, p.valid_from,
       COALESCE((SELECT min(n.valid_from) FROM iot_service.device_placements n
                  WHERE n.device_id = p.device_id AND n.valid_from > p.valid_from), 'infinity') AS valid_to
  FROM iot_service.device_placements p
  JOIN iot_service.zones z USING (location_id);

-- Whose readings are a device's history, and of which time: its own since it took over, its predecessor's before. A line
-- for each device: who asks for one does not have those of all others followed.
CREATE VIEW iot_service.device_lineage AS
SELECT d.device_id, l.member_id, l.valid_from, l.valid_to
  FROM iot_service.iot_devices d
 CROSS JOIN LATERAL (
    WITH RECURSIVE line (member_id, valid_from, valid_to) AS (
        SELECT d.device_id, COALESCE((SELECT s.replaced_at FROM iot_service.device_successions s
                                       WHERE s.device_id = d.device_id), '-infinity'), timestamptz 'infinity'
        UNION ALL
        SELECT s.predecessor_id, COALESCE(before.replaced_at, '-infinity'), s.replaced_at
          FROM line
          JOIN iot_service.device_successions s ON s.device_id = line.member_id
          LEFT JOIN iot_service.device_successions before ON before.device_id = s.predecessor_id
         WHERE COALESCE(before.replaced_at, '-infinity') < s.replaced_at)
    SELECT member_id, valid_from, valid_to FROM line) l;

-- What erasures name, by series: the rule of each, for every series of its devices.
CREATE VIEW iot_service.erased_series AS
SELECT e.erasure_id, v.site, COALESCE(t.time_zone, 'UTC') AS time_zone, v.device_id, s.series_id, e.from_at, e.to_at
  FROM iot_service.erased_intervals e
  JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
  JOIN iot_service.series s USING (device_id)
  LEFT JOIN iot_service.sites t ON t.site = v.site;

-- Quantities whose value says whether somebody is there: 0 is nobody.
CREATE FUNCTION iot_service.is_presence(quantity text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN quantity IN ('presence', 'occupancy', 'motion', 'moving');

-- Quantities that are of the device, not of the room that it is in.
CREATE FUNCTION iot_service.is_of_device(quantity text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN quantity IN ('battery', 'battery_low', 'voltage', 'rssi', 'signal_strength');

-- Who was in the same room as a device at a time, itself among them; itself alone where nobody said where it is.
CREATE FUNCTION iot_service.devices_in_room(device integer, at timestamptz) RETURNS SETOF integer
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 10 BEGIN ATOMIC
    SELECT devices_in_room.device
    UNION
    SELECT other.device_id
      FROM iot_service.device_locations mine
      JOIN iot_service.device_locations other USING (location_id)
     WHERE mine.device_id = devices_in_room.device
       AND mine.valid_from <= devices_in_room.at AND devices_in_room.at < mine.valid_to
       AND other.valid_from <= devices_in_room.at AND devices_in_room.at < other.valid_to;
END;

-- What else was measured in the room at that time: the last value of each other quantity, not older than 15 minutes.
CREATE FUNCTION iot_service.ambient_conditions(device integer, quantity text, at timestamptz) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC
    SELECT jsonb_object_agg(n.quantity, jsonb_build_object('value', n.value, 'unit', n.unit) ORDER BY n.quantity)
      FROM (SELECT DISTINCT ON (s.quantity) s.quantity, s.unit, l.value
              FROM iot_service.devices_in_room(ambient_conditions.device, ambient_conditions.at) AS d (device_id)
              JOIN iot_service.series s USING (device_id)
             CROSS JOIN LATERAL (SELECT r.value, r.recorded_at FROM iot_service.sensor_readings r
                                  WHERE r.series_id = s.series_id AND r.recorded_at <= ambient_conditions.at
                                    AND r.recorded_at > ambient_conditions.at - interval '15 minutes'
                                  ORDER BY r.recorded_at DESC LIMIT 1) l
             WHERE s.quantity <> ambient_conditions.quantity AND NOT iot_service.is_presence(s.quantity)
               AND NOT iot_service.is_of_device(s.quantity)
             ORDER BY s.quantity, l.recorded_at DESC, s.series_id) n;
END;

-- Whether one of the room's presence sensors saw somebody then; null where none has spoken for 15 minutes.
CREATE FUNCTION iot_service.user_presence(device integer, at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC
    SELECT bool_or(l.value <> 0)
      FROM iot_service.devices_in_room(user_presence.device, user_presence.at) AS d (device_id)
      JOIN iot_service.series s USING (device_id)
     CROSS JOIN LATERAL (SELECT r.value FROM iot_service.sensor_readings r
                          WHERE r.series_id = s.series_id AND r.recorded_at <= user_presence.at
                            AND r.recorded_at > user_presence.at - interval '15 minutes'
                          ORDER BY r.recorded_at DESC LIMIT 1) l
     WHERE iot_service.is_presence(s.quantity);
END;

-- In the words of the profile that the device's firmware had when the reading was written.
CREATE FUNCTION iot_service.accuracy(series integer, written_at timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC
    SELECT c.accuracy
      FROM iot_service.series s
      JOIN iot_service.series_profiles p USING (series_id)
      JOIN iot_service.profile_channels c ON c.profile = p.profile AND c.channel = s.channel
     WHERE s.series_id = accuracy.series
     ORDER BY p.first_seen_at <= accuracy.written_at DESC, p.first_seen_at DESC
     LIMIT 1;
END;

-- Why a reading is less than fully reliable, in words; the numbers are those of the wire format (WIRE.md, section 3).
CREATE FUNCTION iot_service.cause_names(causes integer) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE BEGIN ATOMIC
    SELECT coalesce(array_agg(coalesce(c.name, 'bit_' || (1::bigint << n)) ORDER BY n), '{}')
      FROM generate_series(0, 31) AS n
      LEFT JOIN (VALUES (0, 'out_of_range'), (1, 'clock_uncertain'), (2, 'clock_estimated'), (3, 'low_battery'),
                        (4, 'warming_up'), (5, 'fast_change'), (6, 'stuck'), (7, 'sensor_error'), (8, 'weak_signal')
                ) AS c (bit, name) ON c.bit = n
     WHERE cause_names.causes >> n & 1 = 1;
END;

CREATE VIEW iot_service.readings AS
SELECT s.device_id, s.quantity AS reading_type, r.value, s.unit,
       iot_service.accuracy(r.series_id, r.created_at) AS accuracy,
       r.reliability / 100.0::double precision AS reliability_score,
       iot_service.ambient_conditions(s.device_id, s.quantity, r.recorded_at) AS ambient_conditions,
       iot_service.user_presence(s.device_id, r.recorded_at) AS user_presence,
       r.recorded_at, r.created_at, s.channel, r.series_id, r.causes, r.revision,
       r.raw_value
  FROM iot_service.sensor_readings r
  JOIN iot_service.series s USING (series_id);
COMMENT ON VIEW iot_service.readings IS 'select the columns that you need: accuracy, ambient_conditions and user_presence look elsewhere for each row';

-- A device's history, its predecessors' with it; member_id is the device that measured.
CREATE VIEW iot_service.device_history AS
SELECT l.device_id, l.member_id, s.quantity AS reading_type, r.value, s.unit,
       r.reliability / 100.0::double precision AS reliability_score, r.recorded_at, s.channel, r.series_id, r.causes,
       r.raw_value, r.revision
  FROM iot_service.device_lineage l
  JOIN iot_service.series s ON s.device_id = l.member_id
  JOIN iot_service.sensor_readings r
    ON r.series_id = s.series_id AND r.recorded_at >= l.valid_from AND r.recorded_at < l.valid_to;

-- A zone's history: of each device, as long as it was there.
CREATE VIEW iot_service.zone_history AS
SELECT p.location_id, p.site, p.zone, p.position, s.device_id, s.quantity AS reading_type, r.value, s.unit,
       r.reliability / 100.0::double precision AS reliability_score, r.recorded_at, s.channel, r.series_id, r.causes,
       r.raw_value, r.revision
  FROM iot_service.device_locations p
  JOIN iot_service.series s USING (device_id)
  JOIN iot_service.sensor_readings r
    ON r.series_id = s.series_id AND r.recorded_at >= p.valid_from AND r.recorded_at < p.valid_to;

CREATE VIEW iot_service.latest_readings AS
SELECT s.device_id, s.quantity AS reading_type, l.value, s.unit,
       l.reliability / 100.0::double precision AS reliability_score, l.recorded_at, s.channel, l.series_id, l.causes
  FROM iot_service.series_latest l
  JOIN iot_service.series s USING (series_id);

-- By device and quantity; a device with two probes of one quantity has a row for each, told apart by its channel.
CREATE VIEW iot_service.hourly_sensor_averages AS
SELECT s.device_id, s.quantity AS reading_type, h.bucket AS hour, h.total / h.readings AS avg_value,
       h.minimum AS min_value, h.maximum AS max_value, h.readings AS reading_count, s.channel, s.unit, h.series_id
  FROM iot_service.rollup_1h h
  JOIN iot_service.series s USING (series_id);

CREATE VIEW iot_service.fact_sensor_daily AS
SELECT s.device_id, d.reading_date, s.quantity AS reading_type, d.total / d.readings AS avg_value,
       d.minimum AS min_value, d.maximum AS max_value, d.readings AS reading_count, s.channel, s.unit, d.series_id
  FROM iot_service.rollup_site_day d
  JOIN iot_service.series s USING (series_id);

-- Which rules a reading follows, by their number in `corrections`: null where none of a kind does. As of when its value was
-- computed: a rule that came later, and does not touch it, changes nothing.
CREATE VIEW iot_service.reading_corrections AS
SELECT s.device_id, r.series_id, r.recorded_at, r.value, r.raw_value, r.revision, v.profile AS decoded_by,
       (SELECT max(c.number) FROM iot_service.corrections c
         WHERE c.device_id = s.device_id AND c.kind = 'decoder' AND c.was_profile = v.profile AND c.number <= v.number
           AND c.from_at <= r.recorded_at AND r.recorded_at < c.to_at AND c.channels ? s.channel
           AND NOT EXISTS (SELECT FROM iot_service.corrections w WHERE w.withdraws = c.number AND w.number <= v.number)) AS decoder,
       (SELECT c.number FROM iot_service.corrections c
         WHERE c.device_id = s.device_id AND c.kind = 'calibration' AND c.channel = s.channel AND c.unit = s.unit
           AND c.number <= v.number AND c.from_at <= r.recorded_at
           AND NOT EXISTS (SELECT FROM iot_service.corrections w WHERE w.withdraws = c.number AND w.number <= v.number)
         ORDER BY c.from_at DESC, c.number DESC LIMIT 1) AS calibration
  FROM iot_service.sensor_readings r
  JOIN iot_service.series s USING (series_id)
  JOIN iot_service.correction_revisions v ON v.device_id = s.device_id AND v.revision = r.revision;
