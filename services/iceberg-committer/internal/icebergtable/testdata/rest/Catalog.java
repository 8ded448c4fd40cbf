import java.net.InetSocketAddress;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/** A REST catalog with tables in a folder: java -cp 'lib/*' Catalog.java PORT FOLDER. */
public class Catalog {
  public static void main(String[] args) throws Exception {
    JdbcCatalog tables = new JdbcCatalog();
    tables.setConf(new Configuration());
    tables.initialize("rest", Map.of("uri", "jdbc:sqlite:" + args[1] + "/catalog.db", "warehouse", "file://" + args[1], "jdbc.schema-version", "V1", "clients", "1"));
    ServletContextHandler handler = new ServletContextHandler();
    handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(tables))), "/*");
    Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
    server.setHandler(handler);
    server.start();
    server.join();
  }
}
